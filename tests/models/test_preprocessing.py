"""From images of any size, type and range to what the network takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sit_keras.config.preprocessing import IMAGENET_MEAN, IMAGENET_STD, PreprocessingConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.precision import precision
from sit_keras.models.preprocessing import ImagePreprocessing

SHAPE = (16, 16, 3)


def photo(height, width):
    """Smooth enough that eight bits a channel do not matter, (H, W, 3) uint8."""
    rows, columns = np.linspace(0, 3, height)[:, None], np.linspace(0, 5, width)[None]
    waves = [np.sin(k * rows) * np.cos((4 - k) * columns) for k in (1, 2, 3)]
    return np.uint8(127 + 120 * np.stack(waves, axis=-1))


def by_pillow(image, height, width, size):
    """The middle (height, width) of an image, cut out and resized by Pillow to `size`."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    cut = Image.fromarray(image).crop((left, top, left + width, top + height))
    return np.asarray(cut.resize(size[::-1], Image.BICUBIC)) / np.float32(255)


def centre(layer, image):
    return layer.centre(layer.pixels(image[None]))[0]


@pytest.mark.parametrize("crop", [1.0, 0.875, 0.5])
@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (40, 40), (30, 57), (57, 31), (9, 12), (3, 50)]
)
def test_the_centre_is_what_pillow_cuts_out_and_resizes(height, width, crop):
    image = photo(height, width)
    side = round(min(height, width) * crop)
    expected = by_pillow(image, side, side, SHAPE[:2])
    layer = ImagePreprocessing(SHAPE, crop=crop)
    np.testing.assert_allclose(centre(layer, image), expected, atol=2 / 255)  # it rounds twice


@pytest.mark.parametrize(
    ("size", "crop", "height", "width"),
    [
        ((12, 24), 1.0, 30, 60),  # of an image of 50 x 60: the width is the limit
        ((12, 24), 0.5, 15, 30),
        ((24, 8), 1.0, 50, 17),  # the height is the limit
        ((24, 8), 0.5, 25, 8),
        ((20, 24), 1.0, 50, 60),
    ],
)
def test_an_oblong_input_takes_a_centre_of_its_own_ratio(size, crop, height, width):
    image = photo(50, 60)
    layer = ImagePreprocessing((*size, 3), crop=crop)
    expected = by_pillow(image, height, width, size)
    np.testing.assert_allclose(centre(layer, image), expected, atol=2 / 255)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 9)])
def test_of_the_smallest_images_a_pixel_is_left(shape):
    image = np.full((*shape, 3), 60, np.uint8)
    layer = ImagePreprocessing((4, 40, 3), crop=0.1)
    np.testing.assert_allclose(centre(layer, image), 60 / 255, atol=1e-6)


def test_images_of_the_size_of_the_input_are_normalised_and_nothing_else(random):
    images = random.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    expected = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(ImagePreprocessing(SHAPE, crop=1.0)(images), expected, atol=1e-5)
    layer = ImagePreprocessing(SHAPE, 1.0, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = (images / 255 - (0.1, 0.2, 0.3)) / (0.5, 0.6, 0.7)
    np.testing.assert_allclose(layer(images), expected, atol=1e-5)


@pytest.mark.parametrize("value_range", [(0, 255), (0, 1), (-1, 1), (1000, 3000)])
def test_equal_pictures_in_any_range_and_type_are_equal_inputs(value_range, random):
    unit = random.random((2, 20, 24, 3)).astype("float32")
    expected = ImagePreprocessing(SHAPE, value_range=(0, 1))(unit)
    low, high = value_range
    layer = ImagePreprocessing(SHAPE, value_range=value_range)
    images = low + unit * (high - low)
    for dtype, atol in (("float32", 1e-5), ("float64", 1e-5), ("float16", 0.02)):
        np.testing.assert_allclose(layer(images.astype(dtype)), expected, atol=atol, err_msg=dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_whole_numbers_up_to_255_are_black_to_white(dtype):
    layer = ImagePreprocessing(SHAPE)
    images = photo(30, 20)[None].astype(dtype)
    np.testing.assert_array_equal(layer(images), layer(photo(30, 20)[None]))
    black_and_white = np.stack([np.zeros(SHAPE), np.full(SHAPE, 255)]).astype(dtype)
    unit = (layer(black_and_white) * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)).numpy()
    np.testing.assert_allclose(unit[0], 0, atol=1e-6)
    np.testing.assert_allclose(unit[1], 1, atol=1e-6)


def test_greyscale_images_are_repeated(random):
    grey = random.integers(0, 256, (2, 20, 24, 1), dtype=np.uint8)
    layer = ImagePreprocessing(SHAPE)
    np.testing.assert_array_equal(layer(grey), layer(np.repeat(grey, 3, axis=-1)))
    own = ImagePreprocessing((16, 16, 1), 1.0, (0.5,), (0.5,))
    assert own(grey).shape == (2, 16, 16, 1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 16, 16, 4), "images of 3 channels, or greyscale ones of 1 channel; received 4"),
        ((2, 16, 16), r"received the shape \(2, 16, 16\): add the axis that is missing"),
        ((16, 16, 3), "a batch of images"),
    ],
)
def test_what_are_no_such_images_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        ImagePreprocessing(SHAPE).pixels(np.zeros(shape, "uint8"))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_graph_that_knows_no_size_gives_the_same(channels, random):
    layer = ImagePreprocessing(SHAPE)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, None), tf.uint8)])
    def in_graph(images):
        traces.append(images.shape)
        return layer(images)

    for batch, height, width in ((2, 30, 17), (1, 16, 16), (0, 9, 9)):
        images = random.integers(0, 256, (batch, height, width, channels), dtype=np.uint8)
        result = in_graph(images)
        assert result.shape == (batch, *SHAPE)
        np.testing.assert_allclose(result, layer(images), atol=1e-5)
    assert len(traces) == 1


def test_in_a_model_of_any_image_it_declares_the_shape_of_the_network():
    inputs = keras.Input((None, None, None))
    outputs = ImagePreprocessing((8, 12, 3))(inputs)
    assert outputs.shape == (None, 8, 12, 3)


def test_a_dataset_may_be_mapped_by_it():
    layer = ImagePreprocessing(SHAPE)
    images = np.stack([photo(20, 24)] * 4)
    (batch,) = tf.data.Dataset.from_tensor_slices(images).batch(4).map(layer)
    np.testing.assert_allclose(batch, layer(images), atol=1e-5)


def test_a_backbone_brings_its_own():
    config = PreprocessingConfig(0.6, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0, 1))
    backbone = SiTBackbone(
        (8, 12, 3), 4, hidden_dim=8, num_layers=1, num_heads=1, mlp_dim=8, preprocessing=config
    )
    layer = ImagePreprocessing.of(backbone)
    assert layer.config == config and layer.image_shape == (8, 12, 3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_it_computes_in_float32_whatever_the_policy(policy):
    image = photo(30, 20)[None] + np.float32(0.01)  # which half precision would lose
    expected = ImagePreprocessing(SHAPE)(image)
    with precision(policy):
        result = ImagePreprocessing(SHAPE)(image)
        given = ImagePreprocessing(SHAPE, dtype=policy)(image)
    assert result.dtype == given.dtype == tf.float32
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(given, expected)
