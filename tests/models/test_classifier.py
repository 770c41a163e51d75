"""The classifier: `fit` and `predict` on raw images, its head, and how it is saved."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from keras import ops

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead, SiTImageClassifier
from sit_keras.models.optimizers import SiTAdamW
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.saved import load_classifier

NAMES = ("dark", "bright", "striped")


def build_backbone(**changes):
    arguments = {
        "image_shape": (16, 16, 3), "patch_size": 4, "hidden_dim": 24, "num_layers": 2,
        "num_heads": 2, "mlp_dim": 32, "preprocessing": PreprocessingConfig(crop=1.0),
    }  # fmt: skip
    return SiTBackbone(**{**arguments, **changes})


def toy_set(random, count=96):
    """Dark, bright and striped images with their classes, uint8."""
    labels = random.integers(0, 3, count)
    images = random.integers(0, 80, (count, 16, 16, 3))
    images[labels == 1] += 170
    images[labels == 2, ::2] += 170
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def classifier():
    """Not trained, but with weights that tell images apart."""
    keras.utils.set_random_seed(3)
    model = SiTImageClassifier(build_backbone(), 3, class_names=NAMES)
    random = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    return model


# --- Training -------------------------------------------------------------------------------------


def test_compile_and_fit_without_arguments_learn_a_toy_set(random):
    images, labels = toy_set(random)
    model = SiTImageClassifier(build_backbone(num_layers=1), num_classes=3)
    model.compile()
    assert isinstance(model.optimizer, SiTAdamW)
    history = model.fit(images, labels, batch_size=16, epochs=40, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    new_images, new_labels = toy_set(random)
    loss, accuracy = model.evaluate(new_images, new_labels, verbose=0)
    assert accuracy > 0.95 and loss < 0.5
    guesses = model.predict(new_images, verbose=0).argmax(axis=1)
    assert np.mean(guesses == new_labels) == pytest.approx(accuracy)


def test_compile_takes_whatever_keras_takes(random):
    images, labels = toy_set(random, 8)
    model = SiTImageClassifier(build_backbone(), num_classes=3)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[])
    shares = keras.utils.to_categorical(labels, 3)
    assert np.isfinite(model.fit(images, shares, verbose=0).history["loss"][0])


@pytest.mark.parametrize("trained", ["heads", "all"])
def test_a_frozen_backbone_trains_the_heads_alone(trained, random):
    images, labels = toy_set(random, 32)
    model = SiTImageClassifier(build_backbone(), num_classes=3)
    model.backbone.trainable = trained == "all"
    model.compile(SiTAdamW(1e-2))
    body, head = model.backbone.get_weights(), model.head.get_weights()
    assert len(model.trainable_variables) == (len(head) if trained == "heads" else
                                              len(head) + len(body))  # fmt: skip
    model.fit(images, labels, epochs=2, verbose=0)
    assert any((a != b).any() for a, b in zip(head, model.head.get_weights(), strict=True))
    same = all((a == b).all() for a, b in zip(body, model.backbone.get_weights(), strict=True))
    assert same == (trained == "heads")


def test_class_names_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="Received 3 class_names for num_classes=4"):
        SiTImageClassifier(build_backbone(), 4, class_names=NAMES)


# --- Images in, logits out ------------------------------------------------------------------------


def test_the_logits_are_the_mean_of_the_heads_on_the_preprocessed_images(classifier, random):
    images = random.integers(0, 256, (3, 20, 31, 3), dtype=np.uint8)
    backbone = classifier.backbone
    tokens = backbone(ImagePreprocessing.of(backbone)(images))
    each = []
    for name in ("rotation_token", "contrastive_token"):
        kernel, bias = classifier.head.heads[name].get_weights()
        each.append(np.array(tokens[name]) @ kernel + bias)
    np.testing.assert_allclose(classifier(images), np.mean(each, axis=0), atol=1e-5)
    apart = classifier.head(tokens, averaged=False)
    np.testing.assert_allclose(apart, np.stack(each, axis=1), atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16, 3), (40, 23, 3), (7, 90, 3), (20, 20, 1)])
def test_images_of_any_size_and_greyscale_ones_are_predicted(shape, classifier, random):
    images = random.integers(0, 256, (5, *shape), dtype=np.uint8)
    logits = classifier.predict(images, batch_size=2, verbose=0)
    assert logits.shape == (5, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, classifier(images), atol=1e-5)
    np.testing.assert_allclose(
        logits, classifier.predict(images.astype("float32"), verbose=0), atol=1e-5
    )
    np.testing.assert_allclose(
        logits, classifier(np.broadcast_to(images, (5, *shape[:2], 3))), atol=1e-5
    )


def test_the_value_range_is_that_of_the_backbone(classifier, random):
    preprocessing = PreprocessingConfig(crop=1.0, value_range=(-1, 1))
    other = SiTImageClassifier(build_backbone(preprocessing=preprocessing), 3)
    other.set_weights(classifier.get_weights())
    images = random.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    expected = classifier(images)
    np.testing.assert_allclose(other(images / np.float32(127.5) - 1), expected, atol=1e-5)
    assert float(ops.max(ops.abs(other(images) - expected))) > 0.1


def test_the_value_range_stays_that_of_the_classifier_when_the_backbone_gets_another(
    random, tmp_path
):
    model = SiTImageClassifier(build_backbone(), 3)
    images = random.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    expected = model(images)
    changed = dataclasses.replace(model.backbone.preprocessing, value_range=(0, 1))
    model.backbone.preprocessing = changed  # as `SiTPretrainer` does with `value_range`
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    for again in (
        model,
        keras.saving.load_model(tmp_path / "model.keras"),
        load_classifier(tmp_path / "model.keras"),
        SiTImageClassifier.from_preset(tmp_path / "preset"),
    ):
        np.testing.assert_array_equal(again(images), expected)
        assert again.backbone.preprocessing == changed
        assert again.get_config() == model.get_config()
    assert "value_range" not in SiTImageClassifier(build_backbone(), 3).get_config()


def test_a_value_range_of_ones_own(classifier, random):
    other = SiTImageClassifier(classifier.backbone, 3, value_range=(0, 1))
    other.head.set_weights(classifier.head.get_weights())
    images = random.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(other(images / np.float32(255)), classifier(images), atol=1e-5)
    with pytest.raises(ValueError, match="value_range must be"):
        SiTImageClassifier(classifier.backbone, 3, value_range=(1, 0))


def test_images_of_other_channels_are_refused(classifier):
    with pytest.raises(ValueError, match="images of 3 channels, or greyscale"):
        classifier(np.zeros((2, 16, 16, 4), "uint8"))


@pytest.mark.parametrize("hidden_dim", [None, 7])
def test_the_head_rebuilds_from_its_config(hidden_dim, random):
    head = ClassifierHead(4, hidden_dim, tuple("abcd"), name="mine")
    tokens = {name: random.normal(size=(3, 10)).astype("float32") for name in head.tokens}
    expected = head(tokens)
    twin = ClassifierHead.from_config(json.loads(json.dumps(head.get_config())))
    twin.build({name: x.shape for name, x in tokens.items()})
    twin.set_weights(head.get_weights())
    np.testing.assert_array_equal(twin(tokens), expected)
    assert (twin.num_classes, twin.hidden_dim, twin.name) == (4, hidden_dim, "mine")
    assert tuple(twin.class_names) == tuple("abcd")
    assert len(twin.weights) == (4 if hidden_dim is None else 8)


# --- Saving and loading ---------------------------------------------------------------------------


def assert_same(one, other, random):
    images = random.integers(0, 256, (2, 19, 33, 3), dtype=np.uint8)
    np.testing.assert_array_equal(one(images), other(images))
    assert one.get_config() == other.get_config()


@pytest.mark.parametrize("hidden_dim", [None, 7])
def test_a_keras_file_gives_the_same_classifier_back(hidden_dim, random, tmp_path):
    model = SiTImageClassifier(build_backbone(), 3, hidden_dim, NAMES, name="mine")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(model, loaded, random)
    assert (loaded.class_names, loaded.hidden_dim, loaded.name) == (NAMES, hidden_dim, "mine")


def test_a_loaded_classifier_trains_on_from_where_the_saved_one_was(random, tmp_path):
    images, labels = toy_set(random, 16)
    model = SiTImageClassifier(build_backbone(drop_path_rate=0.0), 3)
    model.compile()
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(images, labels, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("hidden_dim", [None, 7])
def test_a_preset_gives_the_same_classifier_back(hidden_dim, random, tmp_path):
    model = SiTImageClassifier(build_backbone(), 3, hidden_dim, NAMES)
    model.save_to_preset(tmp_path / "preset")
    loaded = SiTImageClassifier.from_preset(tmp_path / "preset")
    assert_same(model, loaded, random)
    assert loaded.class_names == NAMES and loaded.backbone.preprocessing.crop == 1.0
    backbone = SiTBackbone.from_preset(tmp_path / "preset")  # which is in it, too
    for old, new in zip(model.backbone.get_weights(), backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    new = SiTImageClassifier.from_preset(tmp_path / "preset", load_weights=False)
    assert (new.head.get_weights()[0] != model.head.get_weights()[0]).any()


def test_new_heads_on_the_backbone_of_a_preset(random, tmp_path):
    backbone = build_backbone()
    backbone.save_to_preset(tmp_path / "preset")
    model = SiTImageClassifier.from_preset(
        tmp_path / "preset",
        num_classes=2,
        hidden_dim=5,
        class_names=["a", "b"],
        image_shape=(8, 8, 3),
    )
    assert model.num_classes == 2 and model.hidden_dim == 5 and model.class_names == ("a", "b")
    assert model.backbone.image_shape == (8, 8, 3)
    kernels = (each.get_layer("patch_embedding").kernel for each in (backbone, model.backbone))
    np.testing.assert_array_equal(*kernels)
    assert model(random.random((2, 9, 9, 3))).shape == (2, 2)
    named = SiTImageClassifier.from_preset("digits", num_classes=10, load_weights=False)
    assert named.num_classes == 10 and named.backbone.hidden_dim == 64


def test_where_there_is_no_classifier_it_asks_for_the_number_of_classes(tmp_path):
    build_backbone().save_to_preset(tmp_path / "preset")
    build_backbone().save(tmp_path / "encoder.keras")
    for path in (tmp_path / "preset", tmp_path / "encoder.keras", tmp_path):
        with pytest.raises(ValueError, match="has no classifier: give num_classes"):
            SiTImageClassifier.from_preset(path)
    with pytest.raises(ValueError, match="digits has no classifier: give num_classes"):
        SiTImageClassifier.from_preset("digits", load_weights=False)


def test_a_broken_classifier_is_refused(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "preset")

    def broken(name, change):
        folder = shutil.copytree(tmp_path / "preset", tmp_path / "broken", dirs_exist_ok=True)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        return folder

    with pytest.raises(ValueError, match="task.weights.h5 cannot be read as weights"):
        SiTImageClassifier.from_preset(broken("task.weights.h5", lambda data: data[:100]))
    with pytest.raises(ValueError, match="task.json cannot be read as a classifier: it is no JSON"):
        SiTImageClassifier.from_preset(broken("task.json", lambda data: b"{"))
    foreign = json.dumps({"registered_name": "keras>Dense", "config": {"units": 3}}).encode()
    with pytest.raises(ValueError, match="task.json .* holds 'keras>Dense', expected sit_keras"):
        SiTImageClassifier.from_preset(broken("task.json", lambda data: foreign))
