"""Training with labels: what is trained, what stays, what is chosen, and an interrupted run."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_encoder import small_encoder

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.settings import ViewConfig
from sit_keras.data.sources import load_source
from sit_keras.evaluation import protocols
from sit_keras.evaluation.features import FrozenFeatures
from sit_keras.evaluation.finetune import _build, _optimizer, finetune
from sit_keras.evaluation.finetune import finetune as finetune_function
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.loading import copy_weights
from sit_keras.models.losses import summed_cross_entropy
from sit_keras.models.optimizers import PlannedAdamW
from sit_keras.training.guards import NonFiniteLoss

VIEWS = ViewConfig(crop_area=(0.9, 1.0), flip_probability=0.0)
SHORT = FinetuneConfig(
    views=VIEWS, rand_augment=1, magnitude=1.0, erasing=0.1, mixup=0.1, epochs=3, batch_size=25,
    learning_rate=0.05, warmup_epochs=1, drop_path_rate=0.2, head_learning_rates=(0.01, 1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    source = load_source("digits")
    return source.train.subset(100, 0), source.test.subset(80, 0)


def modification_times(path):
    return {file.name: file.stat().st_mtime_ns for file in path.iterdir() if file.is_file()}


def test_the_summed_cross_entropy_is_that_of_all_heads_and_tokens(random):
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


def test_planned_adamw_with_one_plan_for_all_equals_adamw():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    reference = keras.optimizers.AdamW(schedule, weight_decay=0.3, epsilon=1e-8)
    expected = adamw_steps(reference, np.random.default_rng(0))
    ours = adamw_steps(PlannedAdamW(schedule, [1, 1], [0.3, 0.3]), np.random.default_rng(0))
    for a, b in zip(expected, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)


def test_planned_adamw_has_a_rate_and_a_decay_for_each_variable():
    """Half the rate for the first and a decay for the second equal an optimizer for each."""
    ours = adamw_steps(PlannedAdamW(0.1, [0.5, 1], [0, 0.2]), np.random.default_rng(0))
    half = adamw_steps(keras.optimizers.Adam(0.05, epsilon=1e-8), np.random.default_rng(0))
    decayed = keras.optimizers.AdamW(0.1, weight_decay=0.2, epsilon=1e-8)
    decayed = adamw_steps(decayed, np.random.default_rng(0))
    np.testing.assert_allclose(ours[0], half[0], rtol=2e-6)
    np.testing.assert_allclose(ours[1], decayed[1], rtol=2e-6)


def test_the_learning_rate_of_a_block_is_a_share_of_the_next_ones():
    config = dataclasses.replace(SHORT, layer_decay=0.5, weight_decay=0.1)
    _, _, model = _build(small_encoder(), 10, config, 1)
    optimizer = _optimizer(model, 2, config, [(1.0, 0.1)], 4)
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
    assert plan["head_0/rotation_token/logits/kernel"] == (1.0, 0.1)


def test_a_convolutional_stem_learns_like_the_embedding_of_patches():
    config = dataclasses.replace(SHORT, layer_decay=0.5, weight_decay=0.1)
    _, _, model = _build(small_encoder(stem="conv"), 10, config, 1)
    optimizer = _optimizer(model, 2, config, [(1.0, 0.1)], 4)
    plans = zip(optimizer._scales, optimizer._weight_decays, strict=True)
    plan = dict(zip([v.path for v in model.trainable_variables], plans, strict=True))
    assert plan["patch_embedding/convolution_0/kernel"] == (0.125, 0.1)
    assert plan["patch_embedding/norm_1/gamma"] == (0.125, 0.0)
    assert plan["patch_embedding/projection/kernel"] == (0.125, 0.1)
    assert plan["block_0/mlp_in/kernel"] == (0.25, 0.1)


def test_new_weights_are_named_and_all_others_must_fit():
    encoder = small_encoder()
    model = SiTImageClassifier(small_encoder(), 5)
    assert copy_weights(encoder, model) == [
        f"classifier/{token}/logits/{name}"
        for token in ("rotation_token", "contrastive_token")
        for name in ("kernel", "bias")
    ]
    for weight, copied in zip(encoder.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(weight, copied)
    wider = small_encoder(mlp_dim=32)
    with pytest.raises(ValueError, match=r"6 of 31.*block_0/mlp_in/kernel: \(16, 24\) -> \(16, 32"):
        copy_weights(encoder, wider)
    larger = small_encoder(image_shape=(12, 12, 3))
    with pytest.raises(ValueError, match=r"positions: \(1, 6, 16\) -> \(1, 11, 16\).*image_shape="):
        copy_weights(encoder, larger)
    fewer = small_encoder(num_layers=1)
    with pytest.raises(ValueError, match="block_1/attention_norm/gamma: .* -> missing.*and 4 more"):
        copy_weights(encoder, fewer)


def test_finished_fine_tuning_is_not_repeated_and_its_folder_not_overwritten(
    digits, tmp_path, capsys
):
    encoder = small_encoder()
    before = encoder.get_weights()
    results = finetune(encoder, *digits, SHORT, tmp_path)
    assert all((a == b).all() for a, b in zip(before, encoder.get_weights(), strict=True))
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 3
    model = keras.saving.load_model(tmp_path / "classifier.keras")
    tuned = SiTBackbone.from_preset(tmp_path)
    for a, b in zip(tuned.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [not np.array_equal(a, b) for a, b in zip(before, tuned.get_weights(), strict=True)]
    assert np.mean(moved) > 0.9
    accuracy = np.mean(np.argmax(model(digits[1].items), axis=1) == digits[1].labels)
    assert accuracy == pytest.approx(results["accuracy"])

    times = modification_times(tmp_path)
    assert finetune(encoder, *digits, SHORT, tmp_path) == results
    assert modification_times(tmp_path) == times
    with pytest.raises(ValueError, match="results of other settings .epochs: 3 -> 4.*--output"):
        finetune(encoder, *digits, dataclasses.replace(SHORT, epochs=4), tmp_path)
    other = small_encoder()
    with pytest.raises(
        ValueError, match="results of other settings .the weights of the encoder have changed"
    ):
        finetune(other, *digits, SHORT, tmp_path)
    with pytest.raises(ValueError, match="train_images: 100 -> 99"):
        finetune(encoder, digits[0].subset(99, 1), digits[1], SHORT, tmp_path)
    assert modification_times(tmp_path) == times


@pytest.mark.slow
@pytest.mark.parametrize("ema", [None, 0.9])
def test_an_interrupted_training_goes_on_from_its_last_epoch(digits, tmp_path, monkeypatch, ema):
    """It reaches the same weights, bit for bit.

    It is interrupted within an epoch, and again after the last one, before the results are written.
    """
    config = dataclasses.replace(SHORT, ema_momentum=ema, drop_path_rate=0.3)
    encoder = small_encoder()
    expected = finetune(encoder, *digits, config, tmp_path / "whole")
    module = finetune_function.__globals__

    def interrupt(*_):
        raise KeyboardInterrupt

    class InterruptWithin(module["_Watch"]):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(module, "_Watch", InterruptWithin)
        with pytest.raises(KeyboardInterrupt):
            finetune(encoder, *digits, config, tmp_path / "cut")
    assert len((tmp_path / "cut" / "log.csv").read_text().splitlines()) == 1 + 1
    with monkeypatch.context() as patch:
        patch.setitem(module, "scores", interrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune(encoder, *digits, config, tmp_path / "cut")
    assert not (tmp_path / "cut" / "results.json").exists()
    assert finetune(encoder, *digits, config, tmp_path / "cut") == expected
    whole, cut = (SiTBackbone.from_preset(tmp_path / name) for name in ("whole", "cut"))
    for a, b in zip(whole.weights, cut.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "cut/log.csv").read_text() == (tmp_path / "whole/log.csv").read_text()


@pytest.mark.slow
def test_the_moving_average_is_what_is_saved(digits, tmp_path):
    encoder = small_encoder()
    averages = {}
    for momentum in (None, 1e-6, 0.999999):
        config = dataclasses.replace(SHORT, ema_momentum=momentum)
        finetune(encoder, *digits, config, tmp_path / str(momentum))
        averages[momentum] = SiTBackbone.from_preset(tmp_path / str(momentum)).get_weights()
    for last, start, plain, before in zip(
        averages[1e-6], averages[0.999999], averages[None], encoder.get_weights(), strict=True
    ):
        np.testing.assert_allclose(last, plain, atol=1e-5)  # an average of the last step alone
        np.testing.assert_allclose(start, before, atol=1e-4)  # one that has hardly begun


@pytest.mark.slow
def test_frozen_training_does_not_change_the_encoder_nor_use_the_test_images(
    digits, tmp_path, random
):
    train, test = load_source("digits").train.subset(300, 0), digits[1]
    config = dataclasses.replace(
        SHORT, frozen=True, epochs=8, learning_rate=1.0, head_learning_rates=(1e-6, 1.0)
    )
    encoder = small_encoder()
    shuffled = dataclasses.replace(test, labels=random.permutation(test.labels))
    results, models = [], []
    before = FrozenFeatures(encoder).of(test)
    for name, images in (("true", test), ("shuffled", shuffled)):
        results.append(finetune(encoder, train, images, config, tmp_path / name))
        models.append(keras.saving.load_model(tmp_path / name / "classifier.keras"))
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)
    assert results[0]["learning_rate"] == results[1]["learning_rate"] == 1.0
    assert results[0]["held_out_accuracy"] > 0.3
    assert len(results[0]["new_weights"]) == 4
    after = FrozenFeatures(SiTBackbone.from_preset(tmp_path / "true")).of(test)
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_a_non_finite_loss_is_explained(digits, tmp_path):
    config = dataclasses.replace(SHORT, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(NonFiniteLoss, match="The loss of a step was nan: lower learning_rate"):
        finetune(small_encoder(), *digits, config, tmp_path)


def test_classes_that_differ_are_refused(digits, tmp_path):
    other = dataclasses.replace(digits[1], class_names=("a", "b"))
    with pytest.raises(ValueError, match="are not those to test on"):
        finetune(small_encoder(), digits[0], other, SHORT, tmp_path)


@pytest.mark.slow
def test_few_shot_records_the_labels_that_it_used(digits, tmp_path):
    source = load_source("digits")
    frozen = protocols.FrozenEncoder(small_encoder(), source.train, digits[1], seed=2)
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
    times = modification_times(tmp_path / "2-percent" / "linear")
    assert protocols.few_shot(frozen, [0.02, 0.1], SHORT, tmp_path) == results
    assert modification_times(tmp_path / "2-percent" / "linear") == times
    with pytest.raises(ValueError, match="would take 0"):
        protocols.few_shot(frozen, [0.1, 0.001], SHORT, tmp_path / "none")
    assert not (tmp_path / "none").exists()  # refused before anything is trained


def test_an_oblong_encoder_is_refused(digits, tmp_path):
    with pytest.raises(ValueError, match="cuts square crops.*image_shape is .8, 12, 3."):
        finetune(small_encoder(image_shape=(8, 12, 3)), *digits, SHORT, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("crop", [1.0, 0.5])
def test_training_with_labels_reads_the_preprocessing_from_the_encoder(
    digits, tmp_path, monkeypatch, crop
):
    """The training views, the test images, and the classifier that is saved."""
    preprocessing = PreprocessingConfig(crop, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    module, seen = finetune_function.__globals__, []
    views = module["labelled_views"]

    def labelled_views(images, made_by, *arguments):
        seen.append(made_by.preprocessing)
        return views(images, made_by, *arguments)

    monkeypatch.setitem(module, "labelled_views", labelled_views)
    encoder = small_encoder(preprocessing=preprocessing)
    config = dataclasses.replace(SHORT, epochs=1)
    results = finetune(encoder, *digits, config, tmp_path)
    model = keras.saving.load_model(tmp_path / "classifier.keras")
    assert seen == [preprocessing] == [model.backbone.preprocessing]
    assert SiTBackbone.from_preset(tmp_path).preprocessing == preprocessing
    predicted = np.argmax(model(digits[1].items), axis=1)
    assert np.mean(predicted == digits[1].labels) == pytest.approx(results["accuracy"], abs=0.02)
