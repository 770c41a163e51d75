"""Frozen features, and what the protocols make of them on the digits."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image
from small_encoder import small_encoder

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.data.sources import load_source
from sit_keras.evaluation import baselines, diagnostics, protocols
from sit_keras.evaluation import features as features_module
from sit_keras.evaluation.features import (
    FrozenFeatures,
    head_features,
    kept_batches,
    pixel_features,
    select_features,
)
from sit_keras.evaluation.finetune import finetune
from sit_keras.evaluation.linear import fit_heads
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.runs.findings import COLLAPSED_SPREAD


@pytest.fixture(scope="module")
def source():
    return load_source("digits")


def pixels_of(images, encoder):
    """The images as the encoder is given them, (N, 8, 8, 3)."""
    batches = eval_batches(images, ImagePreprocessing.of(encoder))
    return pixel_features(batches).reshape(-1, 8, 8, 3)


def test_features_are_the_encoders_outputs_in_the_order_of_the_images(source):
    encoder = small_encoder()
    features = FrozenFeatures(encoder).of(source.test)
    outputs = encoder(pixels_of(source.test, encoder), training=False)
    assert set(features) == set(outputs)
    for name, value in features.items():
        expected = outputs[name] if name != "patch_tokens" else np.mean(outputs[name], axis=1)
        np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=name)
    both = select_features(features, "tokens")
    assert both.shape == (360, 32)
    np.testing.assert_array_equal(both[:, :16], select_features(features, "rotation_token"))
    np.testing.assert_array_equal(both[:, 16:], select_features(features, "contrastive_token"))
    with pytest.raises(ValueError, match="Unknown features 'cls': choose one of tokens"):
        select_features(features, "cls")


def test_two_encoders_get_their_features_from_one_pass_over_the_images(source):
    """To the bit those that each of them computes alone."""
    images = source.test.subset(20, 0)
    first, second = (FrozenFeatures(small_encoder()) for _ in range(2))
    (batch,) = eval_batches(images, first.preprocessing)
    both = first.beside([second], iter([batch]))  # which ends after one pass
    for features, found in zip((first, second), both, strict=True):
        for name, value in features.of(images).items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert np.abs(both[0]["contrastive_token"] - both[1]["contrastive_token"]).max() > 0.1


def folder_of_images(random, folder):
    """Writes five PNG files of 8 x 8 pixels and returns them as an ImageSet."""
    paths = [folder / f"{i}.png" for i in range(5)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return ImageSet(np.array([str(path) for path in paths]), np.zeros(5, int))


@pytest.mark.parametrize("are_small", [True, False])
def test_prepared_images_are_kept_if_they_are_small(random, tmp_path, monkeypatch, are_small):
    """They need not be read from their files again."""
    images = folder_of_images(random, tmp_path)
    size = 5 * 8 * 8 * 3 * 4
    monkeypatch.setattr(features_module, "KEPT_BYTES", size if are_small else size - 1)
    batches = kept_batches(images, ImagePreprocessing((8, 8, 3), crop=1.0))
    (first,) = batches
    for path in images.items:
        pathlib.Path(path).unlink()
    if are_small:
        (again,) = batches
        np.testing.assert_array_equal(again, first)
    else:
        with pytest.raises(Exception, match="No such file"):
            list(batches)


def test_the_crop_and_the_normalisation_are_read_from_the_backbone(random):
    """By hand: the middle half of each image, and a mean and a deviation of its own."""
    preprocessing = PreprocessingConfig(crop=0.5, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    encoder = small_encoder(preprocessing=preprocessing)
    items = random.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    images = ImageSet(items, np.zeros(5, int))
    middle = items[:, 4:12, 4:12] / 255
    expected = (middle - preprocessing.mean) / preprocessing.std
    np.testing.assert_allclose(pixels_of(images, encoder), expected, atol=1e-5)
    tokens = encoder(expected.astype("float32"), training=False)["contrastive_token"]
    features = FrozenFeatures(encoder).of(images)
    np.testing.assert_allclose(features["contrastive_token"], tokens, atol=1e-4)


def test_the_saved_classifier_predicts_as_the_heads_and_the_encoder_is_not_changed(
    source, tmp_path
):
    encoder = small_encoder()
    before = encoder.get_weights()
    frozen = protocols.FrozenEncoder(encoder, source.train.subset(150, 0), source.test)
    results = protocols.linear(frozen, tmp_path)
    assert all((a == b).all() for a, b in zip(before, encoder.get_weights(), strict=True))
    again = FrozenFeatures(encoder).of(frozen.train)
    for name, value in again.items():
        np.testing.assert_array_equal(value, frozen.train_features[name])
    model = keras.saving.load_model(tmp_path / "classifier.keras")
    assert model.class_names == source.test.class_names
    heads = fit_heads(head_features(frozen.train_features), frozen.train.class_labels())
    logits = heads.logits(head_features(frozen.test_features))
    np.testing.assert_allclose(model(frozen.test.items), logits, atol=1e-3)  # raw images
    confusion = np.array(results["confusion"])
    assert np.trace(confusion) / 360 == pytest.approx(results["accuracy"])
    assert results["accuracy"] == heads.accuracy(
        head_features(frozen.test_features), frozen.test.class_labels()
    )
    assert results["per_class"]["3"] == confusion[3, 3] / confusion[3].sum()
    assert Image.open(tmp_path / "confusion.png").width > 300


def test_the_labels_of_test_images_do_not_change_the_classifier(source, tmp_path, random):
    encoder = small_encoder()
    shuffled = dataclasses.replace(source.test, labels=random.permutation(source.test.labels))
    models = []
    for name, test in (("true", source.test), ("shuffled", shuffled)):
        frozen = protocols.FrozenEncoder(encoder, source.train.subset(150, 0), test)
        protocols.linear(frozen, tmp_path / name)
        models.append(keras.saving.load_model(tmp_path / name / "classifier.keras"))
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_heads_with_a_hidden_layer_are_fitted_and_saved(source, tmp_path):
    frozen = protocols.FrozenEncoder(small_encoder(), source.train.subset(150, 0), source.test)
    results = protocols.linear(frozen, tmp_path, hidden_dim=5)
    assert results["accuracy"] > 0.2 and len(results["new_weights"]) == 8
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert isinstance(loaded, SiTImageClassifier) and loaded.hidden_dim == 5
    assert sum(np.prod(w.shape) for w in loaded.head.weights) == 2 * (16 * 5 + 5 + 5 * 10 + 10)
    predicted = np.argmax(loaded(frozen.test.items), axis=1)
    assert np.mean(predicted == frozen.test.labels) == pytest.approx(results["accuracy"], abs=0.003)


def test_diagnostics_measure_the_test_images_and_draw_a_map(source, tmp_path):
    test = source.test.subset(60, 0)
    frozen = protocols.FrozenEncoder(small_encoder(), source.train, test)
    two_views = TwoViews(8)
    results = protocols.representation_diagnostics(frozen, two_views, tmp_path, "patch_tokens")
    assert results["images"] == 60 and 0 < results["spread"] < 1.2
    assert 1 < results["effective_rank"] <= 16
    features = FrozenFeatures(frozen.encoder)
    views = two_views(test.items, 0)["clean"]
    first, second = (features([views[:, i]])["patch_tokens"] for i in (0, 1))
    assert results["alignment"] == pytest.approx(diagnostics.alignment(first, second), rel=1e-4)
    # This encoder is not trained, and has been built with the same seed.
    untrained = results["untrained"]
    assert untrained == pytest.approx({name: results[name] for name in diagnostics.MEASURES})
    text = diagnostics.measure_text("alignment", results)
    assert text == f"alignment (0 to 4, lower is better; untrained {untrained['alignment']:.3f})"
    assert diagnostics.measure_text("spread", {}) == "spread (0 to 1, higher is better)"
    assert Image.open(tmp_path / "map.png").width > 300


def test_classes_that_differ_are_refused(source):
    other = dataclasses.replace(source.test, class_names=("a", "b"))
    with pytest.raises(ValueError, match="are not those to test on"):
        protocols.FrozenEncoder(small_encoder(), source.train, other)


def test_an_encoder_is_compared_with_an_untrained_one_and_with_pixels(source):
    """The encoder compared here gives zeros for all images, unlike an untrained one."""
    train = source.train.subset(300, 0)
    encoder = small_encoder()
    encoder.get_layer("norm").set_weights([np.zeros(16), np.ones(16)])
    results = baselines.compare_with_baselines(encoder, train, source.test, seed=0)
    linear = results["linear_accuracy"]
    assert linear["pixels"] > 0.9
    assert linear["trained"] < 0.15 < linear["untrained"] - 0.3
    assert results["knn_accuracy"]["trained"] < 0.15 < results["knn_accuracy"]["untrained"] - 0.3
    for judge in ("linear", "knn"):
        gains = results["gains"][judge]
        assert gains["pixels"]["accuracy"] == pytest.approx(
            results[f"{judge}_accuracy"]["trained"] - results[f"{judge}_accuracy"]["pixels"]
        )
        assert gains["untrained"]["accuracy_interval"][1] < 0
    spreads = results["token_spread"]
    assert spreads["trained"]["rotation_token"] < COLLAPSED_SPREAD
    assert spreads["untrained"]["rotation_token"] > COLLAPSED_SPREAD
    again = baselines.compare_with_baselines(encoder, train, source.test, seed=0)
    assert again == results  # the untrained weights follow from the seed
    table = baselines.baselines_table({"probe_test_split": "test", **results})
    assert "interval on 360 test images, and balanced accuracy" in table
    assert f"{linear['pixels']:.1%} (" in table
    # Every class has 33 to 37 of the 360 images; a constant answer is right for one class of ten.
    assert results["largest_class"]["balanced_accuracy"] == pytest.approx(0.1)
    assert 33 / 360 <= results["largest_class"]["accuracy"] <= 37 / 360
    assert results["linear_scores"]["trained"]["accuracy"] == linear["trained"]
    assert max(map(len, table.splitlines())) <= 100


def test_an_encoder_is_compared_with_the_one_that_it_started_from(source):
    """Between the two, the network's tokens have been destroyed."""
    train = source.train.subset(300, 0)
    encoder, initial = small_encoder(), small_encoder()
    encoder.get_layer("norm").set_weights([np.zeros(16), np.ones(16)])
    results = baselines.compare_with_baselines(encoder, train, source.test, seed=0, initial=initial)
    alone = baselines.compare_with_baselines(initial, train, source.test, seed=0)
    for judge in ("linear", "knn"):
        start = results[f"{judge}_scores"]["initial"]
        assert start == alone[f"{judge}_scores"]["trained"]
        lost = results[f"{judge}_accuracy"]["trained"] - start["accuracy"]
        assert results["gains"][judge]["initial"]["accuracy"] == pytest.approx(lost)
        assert lost < -0.3
    table = baselines.baselines_table({"probe_test_split": "test", **results})
    assert "the encoder it started from" in table
    assert "started from" not in baselines.baselines_table({"probe_test_split": "test", **alone})


def test_many_encoders_in_one_notebook_bring_no_warning_of_tensorflow(source, caplog):
    """Each of them is traced once, which TensorFlow takes for one that is traced all the time."""
    for _ in range(7):
        FrozenFeatures(small_encoder(num_layers=1)).of(source.test.subset(4, 0))
    assert "retracing" not in caplog.text


def test_images_of_one_class_are_compared_with_nothing(source, capsys):
    """After a long training that is said, and is no error."""
    train = source.train.take(np.flatnonzero(source.train.labels == 3))
    assert baselines.compare_with_baselines(small_encoder(), train, source.test, seed=0) == {}
    assert "are of one class" in capsys.readouterr().out


def uneven(source):
    """Training images of 12, 8, 1 and 0 in four classes; test images of 3, 1, 0 and 1."""

    def chosen(images, counts):
        rows = [np.flatnonzero(images.labels == i)[:count] for i, count in enumerate(counts)]
        return dataclasses.replace(images.take(np.concatenate(rows)), class_names=tuple("abcd"))

    return chosen(source.train, (12, 8, 1, 0)), chosen(source.test, (3, 1, 0, 1))


def test_classes_that_lack_in_a_split_stop_neither_protocol_nor_comparison(source, tmp_path):
    train, test = uneven(source)
    frozen = protocols.FrozenEncoder(small_encoder(), train, test)
    linear = protocols.linear(frozen, tmp_path)
    assert np.shape(linear["confusion"]) == (4, 4)
    assert linear["confusion"][2] == [0, 0, 0, 0]  # no test image of c
    assert set(linear["per_class"]) == {"a", "b", "d"} and linear["per_class"]["d"] == 0
    recalls = list(linear["per_class"].values())
    assert linear["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    model = keras.saving.load_model(tmp_path / "classifier.keras")
    probabilities = keras.ops.softmax(model(test.items))
    assert probabilities.shape == (5, 4)
    np.testing.assert_array_equal(probabilities[:, 3], 0)  # no training image of d
    knn = protocols.knn(frozen, (1, 21))
    assert knn["1"] == knn["scores"]["1"]["accuracy"] <= 0.8
    results = baselines.compare_with_baselines(frozen.encoder, train, test, seed=0)
    assert results["largest_class"]["class"] == "a"
    assert results["largest_class"]["accuracy"] == 0.6
    assert results["largest_class"]["balanced_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_diagnostics_take_as_few_test_images_as_there_are(source, tmp_path, count):
    test = source.test.take(np.arange(count))
    frozen = protocols.FrozenEncoder(small_encoder(), source.train, test)
    results = protocols.representation_diagnostics(frozen, TwoViews(8), tmp_path)
    numbers = [value for value in results.values() if isinstance(value, float)]
    assert len(numbers) == 4 and np.isfinite(numbers).all() and results["images"] == count


@pytest.mark.slow
def test_training_with_labels_takes_classes_that_lack_in_a_split(source, tmp_path):
    train, test = uneven(source)
    frozen = protocols.FrozenEncoder(small_encoder(), train, test)
    config = FinetuneConfig(epochs=1, warmup_epochs=0, batch_size=8, holdout=0.2)
    few = protocols.few_shot(frozen, (0.1, 1.0), config, tmp_path / "few")
    assert [row["labels"] for row in few.values()] == [1 + 1 + 1, 21]
    for row in few.values():
        assert row["finetuned"] == row["finetuned_scores"]["accuracy"]
        assert row["linear_scores"]["balanced_accuracy"] <= 2 / 3  # d is never predicted
    heads = dataclasses.replace(config, frozen=True)
    results = finetune(frozen.encoder, train, test, heads, tmp_path / "frozen")
    assert np.sum(results["confusion"]) == 5 and "macro_f1" in results
