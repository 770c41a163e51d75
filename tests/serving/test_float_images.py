"""Images of floats that a model was not trained for are reported, and fail nobody else."""

import numpy as np
import pytest
import tensorflow as tf
from serving_case import SIGNATURES

from sit_keras.serving import limits
from sit_keras.serving.float_images import EMPTY, NOT_FINITE, TOLERANCE, check_images

OF_IMAGES = sorted(name for name in SIGNATURES if not name.endswith("_bytes"))


@pytest.fixture(scope="module")
def functions(exported):
    return tf.saved_model.load(str(exported)).signatures


def changed(images):
    """Images each wrong in another way but the last two, and the beginning of what is said."""
    images = np.copy(images)
    images[0] *= 255
    images[1, 3, 4, 1] = np.nan
    images[2, 0, 0, 0] = -np.inf
    images[3] = 2 * images[3] - 1
    images[4, 5, 6, 2] = 1 + 2 * TOLERANCE
    images[5, 5, 6, 2] = 1 + TOLERANCE / 2
    said = ["values from 0 to 255;", NOT_FINITE, NOT_FINITE, "values from -1 to 1;",
            "values from 0 to 1.02;", "", ""]  # fmt: skip
    return images, said


@pytest.mark.parametrize("name", OF_IMAGES)
def test_each_image_has_its_own_answer(functions, expected_outputs, unit_pictures, name):
    images, said = changed(unit_pictures)
    outputs = {key: x.numpy() for key, x in functions[name](tf.constant(images)).items()}
    assert outputs["ok"].tolist() == [not text for text in said]
    for error, text in zip(outputs["error"], said, strict=True):
        assert error.decode().startswith(text) and bool(error) == bool(text)
    assert b"expected [0, 1]" in outputs["error"][0] and b"divide" in outputs["error"][0]
    for key in set(outputs) - {"ok", "error"}:
        assert not np.any(outputs[key][:5] != (b"" if key == "top_classes" else 0)), key
    for key, value in expected_outputs[name].items():  # the last image is as it was
        np.testing.assert_allclose(outputs[key][6], value[6], atol=1e-5)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3), (2, 0, 0, 3)])
def test_images_without_a_pixel(functions, name, shape):
    outputs = functions[name](tf.zeros(shape))
    assert outputs["error"].numpy().tolist() == [EMPTY.encode()] * 2
    assert not outputs["ok"].numpy().any()
    assert all(len(value) == 2 for value in outputs.values())


def test_too_many_images(functions):
    embed = functions["serving_default"]
    embed(tf.zeros((limits.MAX_IMAGES, 1, 1, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="256 images a request; received 257"):
        embed(tf.zeros((limits.MAX_IMAGES + 1, 1, 1, 3)))


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr("sit_keras.serving.float_images.MAX_IMAGE_PIXELS", 100)
    check_images(tf.zeros((2, 10, 5, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="At most 100 pixels .* received 110"):
        check_images(tf.zeros((2, 11, 5, 3)))
