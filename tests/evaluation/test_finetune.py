"""Training with labels: what is learnt, what stays, what is chosen, and going on after a cut."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.network import SiTConfig
from sit_keras.config.settings import ViewConfig
from sit_keras.data.sources import load_source
from sit_keras.evaluation import protocols
from sit_keras.evaluation.features import FrozenFeatures, pixel_features
from sit_keras.evaluation.finetune import _build, _optimizer, finetune
from sit_keras.evaluation.finetune import finetune as finetune_function
from sit_keras.models.backbone import build_encoder
from sit_keras.models.classifier import build_classifier
from sit_keras.models.loading import copy_weights, load_encoder
from sit_keras.models.losses import summed_cross_entropy
from sit_keras.models.optimizers import PlannedAdamW
from sit_keras.training.guards import NonFiniteLoss

MODEL = SiTConfig(8, 4, 16, 2, 2, 24)
VIEWS = ViewConfig(crop_area=(0.9, 1.0), flip_probability=0.0, eval_crop=1.0)
SHORT = FinetuneConfig(
    views=VIEWS, rand_augment=1, magnitude=1.0, erasing=0.1, mixup=0.1, epochs=3, batch_size=25,
    learning_rate=0.05, warmup_epochs=1, drop_path_rate=0.2, head_learning_rates=(0.01, 1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    source = load_source("digits")
    return source.train.subset(100, 0), source.test.subset(80, 0)


def untouched(path):
    return {file.name: file.stat().st_mtime_ns for file in path.iterdir() if file.is_file()}


def test_loss_by_hand(random):
    targets = random.dirichlet(np.ones(5), 4).astype("float32")
    logits = random.normal(size=(4, 3, 2, 5)).astype("float32")
    expected = np.zeros(4)
    for i in range(4):
        for head in range(3):
            for token in range(2):
                x = logits[i, head, token].astype("float64")
                expected[i] -= np.sum(targets[i] * (x - np.log(np.exp(x).sum())))
    np.testing.assert_allclose(summed_cross_entropy(targets, logits), expected, rtol=1e-5)


def adamw_steps(optimizer, random):
    variables = [keras.Variable(np.ones((3, 2), "float32")), keras.Variable(np.ones(2, "float32"))]
    optimizer.build(variables)
    for _ in range(5):
        gradients = [tf.constant(random.normal(size=v.shape), tf.float32) for v in variables]
        optimizer.apply(gradients, variables)
    return [v.numpy() for v in variables]


def test_planned_adamw_is_adamw():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    reference = keras.optimizers.AdamW(schedule, weight_decay=0.3, epsilon=1e-8)
    expected = adamw_steps(reference, np.random.default_rng(0))
    ours = adamw_steps(PlannedAdamW(schedule, [1, 1], [0.3, 0.3]), np.random.default_rng(0))
    for a, b in zip(expected, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)


def test_planned_adamw_has_a_rate_and_a_decay_for_each():
    """A rate of a half for the first and a decay for the second, each as its own optimizer's."""
    ours = adamw_steps(PlannedAdamW(0.1, [0.5, 1], [0, 0.2]), np.random.default_rng(0))
    half = adamw_steps(keras.optimizers.Adam(0.05, epsilon=1e-8), np.random.default_rng(0))
    decayed = keras.optimizers.AdamW(0.1, weight_decay=0.2, epsilon=1e-8)
    decayed = adamw_steps(decayed, np.random.default_rng(0))
    np.testing.assert_allclose(ours[0], half[0], rtol=2e-6)
    np.testing.assert_allclose(ours[1], decayed[1], rtol=2e-6)


def test_layers_learn_more_slowly_the_deeper_they_lie():
    config = dataclasses.replace(SHORT, layer_decay=0.5, weight_decay=0.1)
    _, _, model = _build(MODEL, 10, config, 1)
    optimizer = _optimizer(model, MODEL, config, [(1.0, 0.1)], 4)
    plan = {
        v.path: (scale, decay)
        for v, scale, decay in zip(
            model.trainable_variables, optimizer._scales, optimizer._weight_decays, strict=True
        )
    }
    assert plan["patch_embedding/kernel"] == (0.125, 0.1)
    assert plan["prefix_tokens/positions"] == (0.125, 0.0)
    assert plan["block_0/mlp_in/kernel"] == (0.25, 0.1)
    assert plan["block_1/mlp_in/bias"] == (0.5, 0.0)
    assert plan["norm/gamma"] == (1.0, 0.0)
    assert plan["head_0/rotation/logits/kernel"] == (1.0, 0.1)


def test_weights_that_are_new_are_named_and_others_must_fit():
    encoder = build_encoder(MODEL)
    model = build_classifier(build_encoder(MODEL), 5)
    assert copy_weights(encoder, model) == [
        "classifier/rotation/logits/kernel", "classifier/rotation/logits/bias",
        "classifier/contrastive/logits/kernel", "classifier/contrastive/logits/bias",
    ]  # fmt: skip
    for weight, copied in zip(encoder.weights, model.get_layer("sit_encoder").weights, strict=True):
        np.testing.assert_array_equal(weight, copied)
    wider = build_encoder(dataclasses.replace(MODEL, mlp_dim=32))
    with pytest.raises(ValueError, match=r"6 of 31.*block_0/mlp_in/kernel: \(16, 24\) -> \(16, 32"):
        copy_weights(encoder, wider)
    larger = build_encoder(dataclasses.replace(MODEL, image_size=12))
    with pytest.raises(ValueError, match=r"positions: \(1, 6, 16\) -> \(1, 11, 16\).*resize_encod"):
        copy_weights(encoder, larger)
    fewer = build_encoder(dataclasses.replace(MODEL, num_layers=1))
    with pytest.raises(ValueError, match="block_1/attention_norm/gamma: .* -> missing.*and 4 more"):
        copy_weights(encoder, fewer)


def test_fine_tuning_writes_its_folder_once(digits, tmp_path, capsys):
    encoder = build_encoder(MODEL)
    before = encoder.get_weights()
    results = finetune(encoder, *digits, SHORT, tmp_path)
    assert all((a == b).all() for a, b in zip(before, encoder.get_weights(), strict=True))
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 3
    model = keras.saving.load_model(tmp_path / "classifier.keras")
    tuned = load_encoder(tmp_path)
    for a, b in zip(tuned.weights, model.get_layer("sit_encoder").weights, strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [not np.array_equal(a, b) for a, b in zip(before, tuned.get_weights(), strict=True)]
    assert np.mean(moved) > 0.9
    pixels = pixel_features(digits[1], 8, 1.0).reshape(-1, 8, 8, 3)
    accuracy = np.mean(np.argmax(model(pixels), axis=1) == digits[1].labels)
    assert accuracy == pytest.approx(results["accuracy"])

    times = untouched(tmp_path)
    assert finetune(encoder, *digits, SHORT, tmp_path) == results
    assert untouched(tmp_path) == times
    with pytest.raises(ValueError, match="work of other settings .epochs: 3 -> 4.*--output"):
        finetune(encoder, *digits, dataclasses.replace(SHORT, epochs=4), tmp_path)
    other = build_encoder(MODEL)
    with pytest.raises(ValueError, match="work of other settings .encoder: "):
        finetune(other, *digits, SHORT, tmp_path)
    with pytest.raises(ValueError, match="train_images: 100 -> 99"):
        finetune(encoder, digits[0].subset(99, 1), digits[1], SHORT, tmp_path)
    assert untouched(tmp_path) == times


@pytest.mark.slow
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_cut_training_goes_on_from_its_last_epoch(digits, tmp_path, monkeypatch, ema):
    """To the same weights, bit for bit; once cut within an epoch, once before the last files."""
    config = dataclasses.replace(SHORT, ema_momentum=ema, drop_path_rate=0.3)
    encoder = build_encoder(MODEL)
    expected = finetune(encoder, *digits, config, tmp_path / "whole")
    module = finetune_function.__globals__

    def cut(*_):
        raise KeyboardInterrupt

    class CutWithin(module["_Progress"]):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(module, "_Progress", CutWithin)
        with pytest.raises(KeyboardInterrupt):
            finetune(encoder, *digits, config, tmp_path / "cut")
    assert len((tmp_path / "cut" / "log.csv").read_text().splitlines()) == 1 + 1
    with monkeypatch.context() as patch:
        patch.setitem(module, "scores", cut)
        with pytest.raises(KeyboardInterrupt):
            finetune(encoder, *digits, config, tmp_path / "cut")
    assert not (tmp_path / "cut" / "results.json").exists()
    assert finetune(encoder, *digits, config, tmp_path / "cut") == expected
    for a, b in zip(*(load_encoder(tmp_path / x).weights for x in ("whole", "cut")), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "cut/log.csv").read_text() == (tmp_path / "whole/log.csv").read_text()


@pytest.mark.slow
def test_the_moving_average_is_judged(digits, tmp_path):
    encoder = build_encoder(MODEL)
    averages = {}
    for momentum in (None, 1e-6, 0.999999):
        config = dataclasses.replace(SHORT, ema_momentum=momentum)
        finetune(encoder, *digits, config, tmp_path / str(momentum))
        averages[momentum] = load_encoder(tmp_path / str(momentum)).get_weights()
    for last, start, plain, before in zip(
        averages[1e-6], averages[0.999999], averages[None], encoder.get_weights(), strict=True
    ):
        np.testing.assert_allclose(last, plain, atol=1e-5)  # an average of the last step alone
        np.testing.assert_allclose(start, before, atol=1e-4)  # one that has hardly begun


@pytest.mark.slow
def test_frozen_training_leaves_the_encoder_and_never_asks_the_test_images(
    digits, tmp_path, random
):
    train, test = load_source("digits").train.subset(300, 0), digits[1]
    config = dataclasses.replace(
        SHORT, frozen=True, epochs=8, learning_rate=1.0, head_learning_rates=(1e-6, 1.0)
    )
    encoder = build_encoder(MODEL)
    shuffled = dataclasses.replace(test, labels=random.permutation(test.labels))
    results, models = [], []
    before = FrozenFeatures(encoder).of(test, 1.0)
    for name, images in (("right", test), ("shuffled", shuffled)):
        results.append(finetune(encoder, train, images, config, tmp_path / name))
        models.append(keras.saving.load_model(tmp_path / name / "classifier.keras"))
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)
    assert results[0]["learning_rate"] == results[1]["learning_rate"] == 1.0
    assert results[0]["held_out_accuracy"] > 0.3
    assert len(results[0]["new_weights"]) == 4
    after = FrozenFeatures(load_encoder(tmp_path / "right")).of(test, 1.0)
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_a_loss_that_is_none_is_explained(digits, tmp_path):
    config = dataclasses.replace(SHORT, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(NonFiniteLoss, match="The loss of a step was nan: lower learning_rate"):
        finetune(build_encoder(MODEL), *digits, config, tmp_path)


def test_classes_that_differ_are_refused(digits, tmp_path):
    other = dataclasses.replace(digits[1], class_names=("a", "b"))
    with pytest.raises(ValueError, match="are not those to test on"):
        finetune(build_encoder(MODEL), digits[0], other, SHORT, tmp_path)


@pytest.mark.slow
def test_few_shot_says_which_labels_it_took(digits, tmp_path):
    source = load_source("digits")
    frozen = protocols.Frozen(build_encoder(MODEL), source.train, digits[1], 1.0, seed=2)
    results = protocols.few_shot(frozen, [0.02, 0.1], SHORT, tmp_path)
    rows = {}
    for share, folder in (("0.02", "2-percent"), ("0.1", "10-percent")):
        rows[share] = json.loads((tmp_path / folder / "labels.json").read_text())["rows"]
        assert len(rows[share]) == results[share]["labels"]
        counts = np.bincount(source.train.labels[rows[share]])
        assert counts.min() >= 1 and counts.max() - counts.min() <= 1
        tuned = json.loads((tmp_path / folder / "results.json").read_text())
        again = json.loads((tmp_path / folder / "linear" / "results.json").read_text())
        assert results[share]["finetuned"] == tuned["accuracy"]
        assert results[share]["linear"] == again["accuracy"] > 0.5
    assert set(rows["0.02"]) < set(rows["0.1"])
    times = untouched(tmp_path / "2-percent" / "linear")
    assert protocols.few_shot(frozen, [0.02, 0.1], SHORT, tmp_path) == results
    assert untouched(tmp_path / "2-percent" / "linear") == times
    with pytest.raises(ValueError, match="would take 0"):
        protocols.few_shot(frozen, [0.1, 0.001], SHORT, tmp_path / "none")
    assert not (tmp_path / "none").exists()  # refused before anything is trained
