import numpy as np
import pytest
import reference
import tensorflow as tf
from PIL import Image

from sit_keras.augment import operations
from sit_keras.augment.resizing import resized_crop

SIZES = (8, 9, 16, 32, 33, 64, 96, 160, 224)


def photos(random, count=3, height=20, width=28):
    return random.random((count, height, width, 3)).astype("float32")


def boxes(*rows):
    return np.array(rows, "float32")


def crop(images, box, flip=False, size=12):
    batch = len(images)
    box = np.broadcast_to(np.array(box, "float32"), (batch, 1, 4))
    return resized_crop(images, box, np.full((batch, 1), flip), (size, size))[:, 0]


@pytest.mark.parametrize("box", [(0, 0, 20, 28), (3, 5, 9, 14), (7, 1, 4, 5), (19, 27, 1, 1)])
@pytest.mark.parametrize("size", [8, 12, 40])
def test_crop_against_pillow(random, box, size):
    # Away from black and white: Pillow also clips between its two passes.
    pixels = (photos(random, 1) * 128 + 64).astype("uint8")
    top, left, height, width = box
    cropped = Image.fromarray(pixels[0]).crop((left, top, left + width, top + height))
    expected = np.asarray(cropped.resize((size, size), Image.Resampling.BICUBIC)) / 255.0
    result = crop(pixels / np.float32(255), box, size=size)[0]
    # Pillow rounds to whole levels after the columns and again after the rows.
    assert np.abs(result - expected).max() < 1.6 / 255


def test_a_crop_of_the_same_size_changes_nothing(random):
    images = photos(random, height=12, width=12)
    np.testing.assert_allclose(crop(images, (0, 0, 12, 12)), images, atol=1e-6)


def test_flip_mirrors_the_crop(random):
    images = photos(random)
    plain, flipped = crop(images, (2, 3, 9, 11)), crop(images, (2, 3, 9, 11), flip=True)
    np.testing.assert_allclose(flipped, plain[:, :, ::-1], atol=1e-6)


def test_a_crop_never_looks_outside_of_its_box(random):
    images = photos(random)
    outside = images.copy()
    outside[:, :4], outside[:, 13:], outside[:, :, :6], outside[:, :, 19:] = 9, 9, 9, 9
    box = (4, 6, 9, 13)
    np.testing.assert_array_equal(crop(images, box), crop(outside, box))


def test_resizing_commutes_with_quarter_turns(random):
    """Otherwise the resize would leave a trace of the angle."""
    images = photos(random, height=21, width=21)
    turned = np.rot90(images, axes=(1, 2))
    for size in (9, 40):
        expected = np.rot90(crop(images, (0, 0, 21, 21), size=size), axes=(1, 2))
        np.testing.assert_allclose(crop(turned, (0, 0, 21, 21), size=size), expected, atol=1e-5)


def test_each_view_has_its_own_box(random):
    images = photos(random, 2)
    box = boxes([[0, 0, 5, 5], [3, 3, 8, 8]], [[1, 2, 3, 4], [0, 0, 20, 28]])
    flip = np.array([[False, True], [True, False]])
    both = resized_crop(images, box, flip, (10, 10))
    assert both.shape == (2, 2, 10, 10, 3)
    for i in range(2):
        for view in range(2):
            one = crop(images[i : i + 1], box[i, view], flip[i, view], size=10)[0]
            np.testing.assert_allclose(both[i, view], one, atol=1e-6)


def test_rotation_is_clockwise(random):
    images = photos(random, 8, 6, 6)
    turns = np.array([0, 1, 2, 3, 3, 2, 1, 0])
    for image, k, result in zip(images, turns, operations.rotate(images, turns), strict=True):
        np.testing.assert_array_equal(result, np.rot90(image, -k))


def jitter(images, kind, factor):
    factors = np.ones((len(images), 3), "float32")
    factors[:, kind] = factor
    return operations.color_jitter(images, factors, np.tile(np.arange(3), (len(images), 1)))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", ["0.6", "0.85", "1.4"])
def test_jitter_against_pillow(golden_ops, name, factor):
    pixels = golden_ops["jitter/input"][None] / np.float32(255)
    result = jitter(pixels, getattr(operations, name.upper()), float(factor))[0] * 255
    difference = np.abs(result - golden_ops[f"jitter/{name}/{factor}"].astype("float32")).max()
    # Pillow rounds the grey that it blends with, and truncates the result, to whole levels.
    assert difference <= 1.01 + 0.5 * abs(1 - float(factor))


def test_jitter_follows_each_images_order(random):
    images = photos(random, 2)
    factors = np.array([[1.4, 0.6, 1.3], [1.4, 0.6, 1.3]], "float32")
    order = np.array([[0, 1, 2], [2, 1, 0]])
    together = operations.color_jitter(images, factors, order)
    for i in range(2):
        one = images[i : i + 1]
        for kind in order[i]:
            one = jitter(one, kind, factors[i, kind])
        np.testing.assert_allclose(together[i], one[0], atol=1e-6)
    assert (
        np.abs(together[0] - operations.color_jitter(images, factors, order[::-1])[0]).max() > 0.01
    )


def test_normalize_and_back(random):
    images = photos(random)
    np.testing.assert_allclose(
        operations.denormalize(operations.normalize(images)), images, atol=1e-6
    )
    np.testing.assert_allclose(
        operations.normalize(np.array([[0.485, 0.456, 0.406]])), 0, atol=1e-6
    )


@pytest.mark.parametrize("i", range(6))
def test_blur_against_kornia(golden_ops, i):
    image = golden_ops["blur/input"][None].astype("float32")
    radius = (float(golden_ops[f"blur/{i}/kernel_size"]) - 1) / 2
    sigma = float(golden_ops[f"blur/{i}/sigma"])
    whole = boxes((0, 0, 20, 24))
    result = operations.blur_block(image, whole, np.float32([radius]), np.float32([sigma]))
    np.testing.assert_allclose(result[0], golden_ops[f"blur/{i}/output"], rtol=1e-4, atol=1e-5)


def test_blur_treats_the_block_as_an_image_of_its_own(random):
    images = photos(random, 2)
    block = boxes((4, 6, 9, 13), (12, 20, 30, 30))  # the second reaches beyond the border
    result = operations.blur_block(images, block, np.float32([3, 2]), np.float32([1.5, 4.0]))
    expected = images.copy()
    expected[0, 4:13, 6:19] = reference.blur(images[0, 4:13, 6:19], 3, 1.5)
    expected[1, 12:, 20:] = reference.blur(images[1, 12:, 20:], 2, 4.0)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_blur_of_a_tiny_block_shrinks_its_kernel(random, side):
    images = photos(random, 1)
    result = operations.blur_block(
        images, boxes((5, 5, side, side)), np.float32([7]), np.float32([5.0])
    )
    expected = images.copy()
    window = (slice(5, 5 + side),) * 2
    expected[0][window] = reference.blur(images[0][window], side - 1, 5.0)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_grey_block_is_the_plain_mean(random):
    images = photos(random, 1)
    result = operations.grey_block(images, boxes((2, 3, 4, 99)))
    expected = images.copy()
    expected[0, 2:6, 3:] = images[0, 2:6, 3:].mean(-1, keepdims=True)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_fill_uses_active_blocks_only(random):
    images, content = photos(random, 2), photos(random, 2)
    blocks = boxes([[0, 0, 3, 3], [2, 2, 4, 4]], [[15, 15, 9, 9], [1, 1, 2, 2]])
    active = np.array([[True, False], [True, True]])
    expected = images.copy()
    expected[0, :3, :3] = content[0, :3, :3]
    expected[1, 15:20, 15:24] = content[1, 15:20, 15:24]
    expected[1, 1:3, 1:3] = content[1, 1:3, 1:3]
    np.testing.assert_array_equal(operations.fill_blocks(images, blocks, active, content), expected)


def test_distortion_stays_in_its_block(random):
    images = operations.normalize(photos(random, 1))
    factors, order = np.float32([[0.5, 1.5, 0.2]]), np.array([[2, 0, 1]])
    result = operations.distort_block(images, boxes((4, 6, 9, 13)), factors, order)
    whole = operations.normalize(
        operations.color_jitter(operations.denormalize(images), factors, order)
    )
    expected = np.array(images)
    expected[0, 4:13, 6:19] = whole[0, 4:13, 6:19]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def everything(images, size):
    n = images.shape[0]
    box = tf.tile([[[1.0, 2.0, 6.0, 5.0], [0.0, 0.0, 8.0, 8.0]]], (n, 1, 1))
    x = resized_crop(images, box, tf.fill((n, 2), True), (size, size))
    x = tf.reshape(x, (-1, size, size, 3))
    count = 2 * n
    factors, order = tf.fill((count, 3), 1.2), tf.tile([[2, 0, 1]], (count, 1))
    x = operations.rotate(operations.color_jitter(x, factors, order), tf.range(count) % 4)
    block = tf.tile([[1.0, 2.0, 4.0, 5.0]], (count, 1))
    x = operations.blur_block(x, block, tf.fill((count,), 3.0), tf.fill((count,), 2.0))
    x = operations.distort_block(operations.grey_block(x, block), block, factors, order)
    return operations.fill_blocks(x, block[:, None], tf.fill((count, 1), True), x[::-1])


def test_eager_graph_pipeline_and_xla_agree(random):
    images = photos(random, 3, 8, 8)
    eager = everything(tf.constant(images), 8)
    graph = tf.function(everything)(tf.constant(images), 8)
    compiled = tf.function(everything, jit_compile=True)(tf.constant(images), 8)
    dataset = tf.data.Dataset.from_tensors(images).map(lambda x: everything(x, 8))
    for other in (graph, compiled, next(iter(dataset))):
        np.testing.assert_allclose(other, eager, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_works(random, size):
    result = everything(tf.constant(photos(random, 2, 8, 8)), size)
    assert result.shape == (4, size, size, 3)
    assert np.isfinite(result).all()
