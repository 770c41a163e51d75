"""Crops of single images against those of a batch of images."""

import numpy as np
import pytest
import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.augment.resizing import resized_crop
from sit_keras.config.settings import CorruptionConfig
from sit_keras.data.single_crops import cut_crops

# Larger than the result, smaller, of another ratio, and of one pixel.
BOXES = np.array([(3, 5, 30, 28), (0, 0, 9, 7), (1, 2, 11, 37), (39, 49, 1, 1)], np.float32)
FLIPS = np.array([False, True, True, False])


def test_crops_are_those_of_the_matrices_rounded(random):
    image = random.integers(0, 256, (40, 50, 3), np.uint8)
    exact = resized_crop(
        tf.cast(image[None], "float32") / 255.0, BOXES[None], FLIPS[None], (12, 12)
    )
    crops = cut_crops(tf.constant(image), BOXES, FLIPS, 12)
    assert crops.shape == (4, 12, 12, 3) and crops.dtype == tf.uint8
    np.testing.assert_allclose(crops, 255 * exact[0], atol=0.501)


def test_a_batch_and_single_images_give_the_same_views_but_for_rounding(random):
    images, step = random.integers(0, 256, (8, 21, 21, 3), np.uint8), 4
    clean = CorruptionConfig(grey=False, blur=False, drop=0.0, replace=0.0)
    two_views = TwoViews(16, corruption=clean, seed=2)
    pairs = [
        cut_crops(tf.constant(image), *two_views.draw_crops(21, 21, step, i), 16)
        for i, image in enumerate(images)
    ]
    one_by_one, together = two_views(np.stack(pairs), step), two_views(images, step)
    np.testing.assert_array_equal(one_by_one["rotation"], together["rotation"])
    # Half a grey value, multiplied by two jitters and divided by the deviation.
    np.testing.assert_allclose(one_by_one["clean"], together["clean"], atol=0.03)


@pytest.mark.parametrize(("dtype", "low", "high"), [("float32", 0, 1), ("int16", 0, 255)])
def test_images_of_any_type_and_range_give_the_same_crops(random, dtype, low, high):
    image = random.integers(0, 256, (40, 50, 3), np.uint8)
    scaled = (low + image / 255.0 * (high - low)).astype(dtype)
    crops = cut_crops(tf.constant(scaled), BOXES, FLIPS, 12, (low, high))
    expected = cut_crops(tf.constant(image), BOXES, FLIPS, 12)
    np.testing.assert_allclose(tf.cast(crops, "int32"), tf.cast(expected, "int32"), atol=1)


def test_a_box_that_begins_within_a_pixel_is_where_it_should_be():
    """A ramp of 10 a pixel: the middle of pixel i has the value 10 i, and cubic keeps lines."""
    ramp = np.tile(10 * np.arange(20, dtype=np.uint8)[None, :, None], (20, 1, 3))
    box = np.array([(4.5, 3.5, 8, 8)], np.float32)
    (crop,) = cut_crops(tf.constant(ramp), box, np.array([False]), 8)
    # Result pixel k lies over source column 3.5 + k, as counted from the middle of column 0.
    np.testing.assert_array_equal(crop[4, 2:-2, 0], [55, 65, 75, 85])
