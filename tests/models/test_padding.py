"""`fit=pad`: whole images with bars, the same in the layer, the pipeline and an export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from serving_case import PREPROCESSING, contract_of, encode, run_folder  # noqa: F401

from sit_keras.config.serialization import from_dict, to_dict
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.serving.export import export
from sit_keras.serving.servable import Servable

MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.2, 0.1)


def photo(height, width):
    """Smooth enough that eight bits a channel do not matter, (H, W, 3) uint8."""
    rows, columns = np.linspace(0, 3, height)[:, None], np.linspace(0, 5, width)[None]
    waves = [np.sin(k * rows) * np.cos((4 - k) * columns) for k in (1, 2, 3)]
    return np.uint8(127 + 120 * np.stack(waves, axis=-1))


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resized(signal, size):
    """Antialiased bicubic resizing of (length, ...) to (size, ...), pixel by pixel."""
    scale = len(signal) / size
    out = np.zeros((size, *signal.shape[1:]))
    for o in range(size):
        distances = np.arange(len(signal)) - ((o + 0.5) * scale - 0.5)
        weights = np.array([cubic(x / max(scale, 1)) for x in distances])
        out[o] = np.tensordot(weights / weights.sum(), signal, 1)
    return out


def transcription(image, size, colour):
    """What the documentation says, in NumPy: image (H, W, 3) in [0, 1]."""
    height, width = image.shape[:2]
    if height * size[1] >= width * size[0]:  # the height is the limit
        rows, columns = size[0], max(1, round(width * size[0] / height))
    else:
        rows, columns = max(1, round(height * size[1] / width)), size[1]
    inner = resized(resized(image, rows).swapaxes(0, 1), columns).swapaxes(0, 1)
    canvas = np.tile(np.array(colour), (*size, 1))
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    canvas[top : top + rows, left : left + columns] = inner.clip(0, 1)
    return canvas


@pytest.mark.parametrize("size", [(16, 16), (12, 24), (9, 5)])
@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (30, 57), (57, 31), (9, 12), (3, 50), (50, 1), (1, 1)]
)
def test_a_padded_image_is_what_a_transcription_makes_of_it(height, width, size):
    image = photo(height, width) / np.float32(255)
    layer = ImagePreprocessing((*size, 3), 0.5, MEAN, STD, fit="pad")  # `crop` has no effect
    expected = transcription(image, size, MEAN)
    padded = layer.centre(tf.constant(image[None]))[0]
    np.testing.assert_allclose(padded, expected, atol=1e-5)
    normalised = layer(photo(height, width)[None])[0]
    np.testing.assert_allclose(normalised, (expected - MEAN) / STD, atol=2e-4)


def test_the_bars_are_zero_for_the_network():
    layer = ImagePreprocessing((16, 16, 3), mean=MEAN, std=STD, fit="pad")
    views = layer(photo(20, 41)[None])[0].numpy()  # 8 of 16 rows, from the fourth
    assert (np.abs(views).max(axis=(1, 2)) < 1e-6).tolist() == [True] * 4 + [False] * 8 + [True] * 4
    views = layer(photo(41, 18)[None])[0].numpy()  # 7 of 16 columns: four left, five right
    assert (np.abs(views).max(axis=(0, 2)) < 1e-6).tolist() == [True] * 4 + [False] * 7 + [True] * 5


def test_square_images_are_those_of_a_whole_crop():
    images = photo(40, 40)[None]
    padded, cropped = (
        ImagePreprocessing((16, 16, 3), fit="pad"),
        ImagePreprocessing((16, 16, 3), 1.0),
    )
    np.testing.assert_allclose(padded(images), cropped(images), atol=1e-5)
    small = photo(16, 16)[None]
    np.testing.assert_array_equal(padded(small), cropped(small))


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3), (0, 5, 9, 3)])
def test_images_without_pixels_do_not_fail_here(shape):
    """A server refuses them one by one, after the batch has been through this layer."""
    layer = ImagePreprocessing((16, 16, 3), fit="pad")
    assert layer.centre(tf.zeros(shape)).shape == (shape[0], 16, 16, 3)


def test_the_setting_travels_with_layer_settings_and_preset(tmp_path):
    layer = ImagePreprocessing((8, 8, 3), mean=MEAN, std=STD, fit="pad")
    again = ImagePreprocessing.from_config(layer.get_config())
    assert again.config == layer.config and again.config.fit == "pad"
    assert from_dict(type(layer.config), to_dict(layer.config)) == layer.config
    backbone = SiTBackbone(
        (8, 8, 3), 4, 8, 1, 1, 8, preprocessing={**PREPROCESSING.__dict__, "fit": "pad"}
    )
    backbone.save_to_preset(tmp_path / "preset")
    assert SiTBackbone.from_preset(tmp_path / "preset").preprocessing.fit == "pad"
    older = layer.get_config()
    del older["fit"]
    assert ImagePreprocessing.from_config(older).config.fit == "crop"


@pytest.mark.parametrize(("kind", "height", "width"), [("JPEG", 304, 416), ("PNG", 90, 300)])
def test_files_are_padded_by_the_pipeline_of_evaluation(tmp_path, kind, height, width):
    """A JPEG is decoded at a fraction of its size, of which the long side is enough."""
    path, image = tmp_path / "image", photo(height, width)
    Image.fromarray(image).save(path, kind, **({"quality": 97} if kind == "JPEG" else {}))
    layer = ImagePreprocessing((16, 16, 3), mean=MEAN, std=STD, fit="pad")
    images = ImageSet(np.array([str(path)] * 2), np.zeros(2, int))
    (views,) = eval_batches(images, layer)
    expected = transcription(image / 255, (16, 16), MEAN)
    np.testing.assert_allclose(views[0] * STD + np.array(MEAN), expected, atol=0.03)


@pytest.fixture(scope="module")
def padding(run_folder):  # noqa: F811
    values = {**vars(PREPROCESSING), "fit": "pad"}
    return SiTBackbone.from_preset(run_folder, preprocessing=values)


def test_a_served_oblong_image_is_what_it_is_here(padding, tmp_path):
    """Of pixels, and of files that are reduced: their whole, and not their middle."""
    version = export(run=_saved(padding, tmp_path / "preset"), output=tmp_path / "exported")
    about = contract_of(version)["preprocessing"]
    assert about["fit"] == "pad" and "whole image" in about["steps"][0]
    served = tf.saved_model.load(str(version)).signatures
    layer = ImagePreprocessing.of(padding)
    for height, width in ((30, 44), (700, 210), (20, 900)):
        image = photo(height, width)
        low, high = PREPROCESSING.value_range
        here = padding(layer(low + image[None] / np.float32(255) * (high - low)))
        pixels = served["serving_default"](tf.constant(image[None] / np.float32(255)))
        np.testing.assert_allclose(pixels["rotation_token"], here["rotation_token"], atol=1e-4)
        files = [
            encode(Image.fromarray(image), "PNG"),
            encode(Image.fromarray(image), "JPEG", quality=97),
        ]
        sent = served["serving_bytes"](tf.constant(files))
        assert sent["ok"].numpy().all()
        for tokens in sent["rotation_token"].numpy():
            difference = np.abs(tokens - here["rotation_token"][0]).max()
            assert difference < 0.15 * np.abs(here["rotation_token"]).max()


def test_padding_changes_what_is_served(padding, run_folder):  # noqa: F811
    image = tf.constant(photo(20, 60)[None] / np.float32(255))
    cropping = SiTBackbone.from_preset(run_folder)
    one, other = (
        Servable(each).signatures()["serving_default"](image)["embedding"]
        for each in (padding, cropping)
    )
    assert np.abs(one - other).max() > 1e-3


def _saved(backbone: keras.Model, folder):
    backbone.save_to_preset(folder)
    return folder
