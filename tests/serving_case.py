"""A small run, its export, and images to send to it: a plugin of pytest with fixtures."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.presets import run_config
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.heads import build_pretext_network
from sit_keras.runs.folder import write_settings
from sit_keras.serving.contract import keras_outputs
from sit_keras.serving.export import _load, export

CONFIG = NetworkConfig(16, 4, 24, 2, 2, 32, projection_dim=8)
# Nothing is at its default, so that a place that takes the defaults gives other numbers.
PREPROCESSING = PreprocessingConfig(0.8, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), (0.0, 200.0))
NAMES = ("cat", "dog", "owl", "fox", "éléphant", "elk")
SIGNATURES = {
    "serving_default", "serving_bytes", "patches", "reconstruct", "predict_rotation", "classify",
    "classify_bytes",
}  # fmt: skip


def build_backbone(**changes):
    arguments = {**CONFIG.backbone_arguments(), "preprocessing": PREPROCESSING}
    return SiTBackbone(**{**arguments, **changes})


def save_run(folder):
    """A run folder as pre-training and evaluation leave it: not trained, but of large weights."""
    folder.mkdir()
    keras.utils.set_random_seed(3)
    encoder = build_backbone()
    network = build_pretext_network(encoder, CONFIG.projection_dim)
    random = np.random.default_rng(1)
    for weight in network.trainable_variables:
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    network.save(folder / "network.keras")
    encoder.save(folder / "encoder.keras")
    config = run_config("digits")
    write_settings(folder, dataclasses.replace(config, model=CONFIG, preprocessing=PREPROCESSING))
    classifier = SiTImageClassifier(encoder, len(NAMES), class_names=NAMES)
    classifier.save(folder / "classifier.keras")
    return folder


def contract_of(version):
    return json.loads((version / "assets" / "contract.json").read_text())


def encode(image, kind, **settings):
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def assert_close(ours, theirs, atol=1e-5):
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=atol, err_msg=name)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="session")
def exported(run_folder):
    """An exported version of the run, not verified."""
    return export(run_folder, run_folder.parent / "exports" / "small", check=False)


@pytest.fixture(scope="session")
def pictures():
    """Images (7, 30, 44, 3) uint8."""
    return np.random.default_rng(5).integers(0, 256, (7, 30, 44, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def unit_pictures(pictures):
    """The same as float32 in [0, 1]."""
    return pictures / np.float32(255)


@pytest.fixture(scope="session")
def picture_files(pictures):
    """The same as PNG files."""
    return [encode(picture, "PNG") for picture in pictures]


@pytest.fixture(scope="session")
def expected_outputs(run_folder, unit_pictures):
    """The outputs of the Keras models of the run for these images, by signature and output."""
    outputs = keras_outputs(_load(run_folder, None), unit_pictures)
    return {
        **outputs,
        "serving_bytes": outputs["serving_default"],
        "classify_bytes": outputs["classify"],
    }
