"""The signatures of an export compute what the Keras models compute."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from serving_case import (
    NAMES,
    PREPROCESSING,
    SIGNATURES,
    assert_close,
    build_backbone,
    contract_of,
    encode,
)

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.data.sources import load_source
from sit_keras.evaluation.features import FrozenFeatures, select_features
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.heads import build_pretext_network
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.serving.contract import keras_outputs
from sit_keras.serving.export import _load, export
from sit_keras.serving.servable import Servable, fuse


@pytest.fixture(scope="module")
def functions(exported):
    return tf.saved_model.load(str(exported)).signatures


def test_every_signature_is_the_keras_model(
    functions, expected_outputs, unit_pictures, picture_files
):
    assert set(functions) == set(expected_outputs) == SIGNATURES
    for name, outputs in expected_outputs.items():
        inputs = tf.constant(picture_files if "bytes" in name else unit_pictures)
        assert_close(functions[name](inputs), outputs)
        for count in (0, 1):
            part = functions[name](inputs[:count])
            assert_close(part, {key: value[:count] for key, value in outputs.items()})
            assert all(len(value) == count for value in part.values())


def test_the_classes_are_those_that_the_classifier_predicts(functions, run_folder, pictures):
    """On the images as they are, without the code that makes the reference of the export."""
    classifier = keras.saving.load_model(run_folder / "classifier.keras")
    low, high = PREPROCESSING.value_range
    images = low + pictures / np.float32(255) * (high - low)
    logits = classifier.predict(images, verbose=0)
    outputs = functions["classify"](tf.constant(pictures / np.float32(255)))
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)


def test_a_client_could_follow_the_contract(exported, run_folder, functions, unit_pictures):
    """Its numbers are all that is needed to preprocess images as the export does."""
    about = contract_of(exported)
    names = ("image_shape", "crop", "mean", "std", "value_range", "fit")
    layer = ImagePreprocessing(**{name: about["preprocessing"][name] for name in names})
    encoder = SiTBackbone.from_config(about["model"])
    encoder.set_weights(SiTBackbone.from_preset(run_folder).get_weights())
    tokens = encoder(layer(unit_pictures))
    outputs = functions["serving_default"](tf.constant(unit_pictures))
    for name in ("rotation_token", "contrastive_token"):
        np.testing.assert_allclose(outputs[name], tokens[name], atol=1e-5)
    assert layer.config == dataclasses.replace(PREPROCESSING, value_range=(0, 1))


@pytest.mark.parametrize("field", ["crop", "mean", "std"])
def test_the_preprocessing_of_the_backbone_is_what_counts(field, run_folder, unit_pictures):
    """An export with the defaults of another one would give other tokens."""
    encoder = SiTBackbone.from_preset(run_folder)
    values = {**vars(PREPROCESSING), field: getattr(PreprocessingConfig(), field)}
    other = SiTBackbone.from_preset(run_folder, preprocessing=values)
    images = tf.constant(unit_pictures)
    one, another = (
        Servable(each).signatures()["serving_default"](images)["embedding"]
        for each in (encoder, other)
    )
    assert np.abs(one - another).max() > 1e-3


def test_the_best_classes_have_their_names(functions, picture_files):
    outputs = functions["classify_bytes"](tf.constant([*picture_files, b"no image"]))
    probabilities = outputs["probabilities"].numpy()
    order = np.argsort(-probabilities[:-1], axis=1)[:, :5]
    names = np.array(NAMES)[order]
    found = np.vectorize(bytes.decode)(outputs["top_classes"].numpy()[:-1])
    np.testing.assert_array_equal(found, names)
    np.testing.assert_array_equal(outputs["ok"], [True] * 7 + [False])
    assert outputs["error"].numpy()[-1] == b"neither JPEG nor PNG"
    np.testing.assert_array_equal(probabilities[-1], 0)


def test_the_upright_angle_undoes_the_predicted_rotation(functions, random):
    """It counts the other way round than the rotation."""
    images = random.random((40, 16, 16, 3)).astype("float32")
    outputs = functions["predict_rotation"](tf.constant(images))
    turns = outputs["probabilities"].numpy().argmax(axis=1)
    np.testing.assert_array_equal((outputs["upright_angle"].numpy() + 90 * turns) % 360, 0)
    assert len(set(turns)) > 1


def test_the_weights_are_saved_once(exported, run_folder):
    """Neither a Keras layer nor the backbone of the classifier is saved beside them."""
    weights = tf.train.list_variables(str(exported / "variables" / "variables"))
    saved = sum(np.prod(shape) for name, shape in weights if name.endswith("VARIABLE_VALUE"))
    network = keras.saving.load_model(run_folder / "network.keras")
    heads = [network.get_layer(name) for name in ("rotation_head", "reconstruction_head")]
    of_classes = 2 * 24 * len(NAMES) + len(NAMES)  # the two heads are fused
    backbone = SiTBackbone.from_preset(run_folder).count_params()
    assert saved == backbone + sum(head.count_params() for head in heads) + of_classes


def test_a_fused_head_is_the_mean_of_two(random):
    head = SiTImageClassifier(build_backbone(), 6).head
    tokens = {name: random.normal(size=(9, 24)).astype("float32") for name in head.tokens}
    both = np.concatenate([tokens["rotation_token"], tokens["contrastive_token"]], axis=1)
    np.testing.assert_allclose(fuse(head)(both), head(tokens), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_oblong_encoders_are_refused(channels):
    encoder = build_backbone(image_shape=(16, 24, channels), preprocessing=None)
    with pytest.raises(ValueError, match=rf"must be \(S, S, {channels}\); received \(16, 24, "):
        Servable(encoder)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_files_are_served_of_one_channel_and_of_three_alone(channels):
    encoder = build_backbone(image_shape=(16, 16, channels), preprocessing=None)
    signatures = Servable(encoder).signatures()
    assert ("serving_bytes" in signatures) == (channels == 1)
    (spec,) = signatures["patches"].input_signature
    assert spec.shape.as_list() == [None, None, None, channels]


def test_a_file_of_colours_becomes_grey_by_its_luma_where_one_channel_is_served(random):
    settings = {"preprocessing": PreprocessingConfig(1.0, (0.4,), (0.2,))}
    servable = Servable(build_backbone(image_shape=(16, 16, 1), **settings))
    signatures = servable.signatures()
    pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    luma = (pixels @ np.array([0.299, 0.587, 0.114]) / 255).astype("float32")[None, ..., None]
    ours = signatures["serving_bytes"](tf.constant([encode(pixels, "PNG")]))
    assert ours["ok"].numpy().all()
    theirs = signatures["serving_default"](tf.constant(luma))
    np.testing.assert_allclose(ours["embedding"], theirs["embedding"], atol=1e-5)


@pytest.mark.slow
def test_a_head_with_a_hidden_layer(run_folder, tmp_path, unit_pictures):
    encoder = SiTBackbone.from_preset(run_folder)
    SiTImageClassifier(encoder, 4, hidden_dim=7).save(tmp_path / "two.keras")
    version = export(run_folder, tmp_path / "out", classifier=tmp_path / "two.keras", check=False)
    parts = _load(run_folder, tmp_path / "two.keras")
    outputs = tf.saved_model.load(str(version)).signatures["classify"](tf.constant(unit_pictures))
    assert_close(outputs, keras_outputs(parts, unit_pictures)["classify"])
    assert set(outputs["top_classes"].numpy().ravel()) <= {b"0", b"1", b"2", b"3"}


@pytest.mark.slow
def test_half_precision(run_folder, exported, tmp_path, picture_files):
    half = export(run_folder, tmp_path / "half", precision="float16")  # verified, as by default
    name = "variables/variables.data-00000-of-00001"
    assert 0.45 < (half / name).stat().st_size / (exported / name).stat().st_size < 0.6
    embeddings = [
        tf.saved_model.load(str(each)).signatures["serving_bytes"](tf.constant(picture_files))
        for each in (exported, half)
    ]
    cosines = np.sum(embeddings[0]["embedding"] * embeddings[1]["embedding"], axis=1)
    assert 0.999 < cosines.min() < 1 - 1e-9
    assert contract_of(half)["weights"] == "float16"


@pytest.mark.slow
def test_a_network_of_mixed_precision_is_served_in_float32(tmp_path):
    """As pre-training leaves it: the network as it was trained, the encoder in float32."""
    encoder = build_backbone(dtype="mixed_bfloat16")
    build_pretext_network(encoder, 8).save(tmp_path / "network.keras")
    encoder.save(tmp_path / "encoder.keras")
    version = export(tmp_path, tmp_path / "out")  # verified within 1e-4
    assert contract_of(version)["model"]["dtype"] == "float32"


def linear_head(features, labels):
    """A head as a notebook would train it."""
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(features)
    model = keras.Sequential([scale, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    model.fit(features, labels, batch_size=256, epochs=40, verbose=0)
    return model


@pytest.mark.slow
def test_a_linear_head_on_the_savedmodel_is_as_good_as_on_the_encoder(tmp_path):
    """Through Keras' TFSMLayer, on the digits."""
    source = load_source("digits")
    encoder = SiTBackbone.from_preset("digits", load_weights=False)
    encoder.save(tmp_path / "encoder.keras")
    version = export(tmp_path / "encoder.keras", tmp_path / "out", check=False)
    layer = keras.layers.TFSMLayer(str(version), call_endpoint="serving_default", trainable=False)
    inputs = keras.Input((None, None, 3))
    tokens = layer(inputs)
    both = keras.layers.Concatenate()([tokens["rotation_token"], tokens["contrastive_token"]])
    model = keras.Model(inputs, both)
    native = FrozenFeatures(encoder)
    accuracies = []
    for features in (
        lambda images: model.predict(images.items / np.float32(255), verbose=0),
        lambda images: select_features(native.of(images), "tokens"),
    ):
        head = linear_head(features(source.train), source.train.labels)
        _, accuracy = head.evaluate(features(source.test), source.test.labels, verbose=0)
        accuracies.append(accuracy)
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.005)
    assert accuracies[0] > 0.6
