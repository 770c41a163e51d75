"""Jitter with a chance, hue, greyscale and solarisation, against loops over pixels."""

import cmath
import dataclasses
import math

import numpy as np
import pytest

from sit_keras.augment import operations, pretext
from sit_keras.augment.pretext import APPEARANCE_NUMBERS, TwoViews
from sit_keras.augment.random import random_bits, uniform
from sit_keras.config.settings import CorruptionConfig, ViewConfig

CLEAN = CorruptionConfig(grey=False, blur=False, drop=0.0, replace=0.0)
WHOLE = ViewConfig(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip_probability=0.0)
STILL = dataclasses.replace(WHOLE, brightness=0.0, contrast=0.0, saturation=0.0)
EVERY = dataclasses.replace(
    WHOLE, jitter_probability=0.8, hue=0.3, greyscale_probability=0.4, solarize_probability=0.5
)
ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def photos(random, count=4, size=6):
    return random.random((count, size, size, 3)).astype("float32")


def luma(pixel):
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def clipped(value):
    return min(max(value, 0.0), 1.0)


def turned(pixel, turns):
    """The pixel with its colour difference, a complex number, turned around grey."""
    red, _, blue = map(float, pixel)
    y = luma([float(value) for value in pixel])
    colour = complex(0.492111 * (blue - y), 0.877283 * (red - y)) * cmath.exp(2j * math.pi * turns)
    blue, red = y + colour.real / 0.492111, y + colour.imag / 0.877283
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return [clipped(value) for value in (red, green, blue)]


def blended(image, kind, factor):
    """Brightness (0), contrast (1) or saturation (2) of an image by a factor."""
    mean = sum(luma(pixel) for row in image for pixel in row) / (len(image) * len(image[0]))
    result = []
    for row in image:
        result.append([])
        for pixel in row:
            target = (0.0, mean, luma(pixel))[kind]
            result[-1].append([clipped(factor * x + (1 - factor) * target) for x in pixel])
    return result


def slow_view(image, numbers, config, second):
    """The colours of a view, one option after the other.

    Args:
        image: (S, S, 3) in [0, 1].
        numbers: those of the jitter, and of its chance, the hue, greyscale and solarisation.
    """
    jitter, jittered, hue, grey, solar = numbers
    rows = image.astype(float).tolist()
    if jittered < config.jitter_probability:
        strengths = config.brightness, config.contrast, config.saturation
        for kind in ORDERS[int(jitter[3] * 6)]:
            rows = blended(rows, kind, 1 + strengths[kind] * (2 * float(jitter[kind]) - 1))
        turns = config.hue * (2 * float(hue) - 1)
        rows = [[turned(pixel, turns) for pixel in row] for row in rows]
    if grey < config.greyscale_probability:
        rows = [[[luma(pixel)] * 3 for pixel in row] for row in rows]
    if second and solar < config.solarize_probability:
        rows = [[[1 - x if x >= 0.5 else x for x in pixel] for pixel in row] for row in rows]
    return np.array(rows)


def coloured(config, images, seed=4, step=9):
    """The views (B, 2, S, S, 3) of images, before they are turned and as pixels in [0, 1]."""
    views = TwoViews(images.shape[1], config, CLEAN, seed=seed)
    crops = np.stack([images, images], axis=1)
    x, _ = views.color(crops, step, np.arange(len(images), dtype="int32"))
    return np.asarray(operations.denormalize(x)).reshape(crops.shape)


def drawn(stream, count, images, seed=4, step=9):
    """The numbers (B, 2, count) of a stream."""
    bits = random_bits(seed, step, stream, np.arange(images, dtype="int32"), 2 * count)
    return np.asarray(uniform(bits)).reshape(images, 2, count)


@pytest.mark.parametrize(
    "config",
    [
        EVERY,
        dataclasses.replace(WHOLE, hue=0.1),
        dataclasses.replace(WHOLE, jitter_probability=0.5),
        dataclasses.replace(STILL, greyscale_probability=0.5),
        dataclasses.replace(STILL, solarize_probability=1.0),
    ],
    ids=["all of them", "hue", "jitter", "greyscale", "solarize"],
)
def test_the_colours_of_views_are_those_of_a_slow_transcription(random, config):
    images = photos(random, 12)
    views = coloured(config, images)
    jitter = drawn(1, APPEARANCE_NUMBERS, 12)[..., 1:]
    chances = [drawn(stream, 1, 12)[..., 0] for stream in (4, 5, 6, 7)]
    for i, view in np.ndindex(12, 2):
        numbers = [jitter[i, view], *(chance[i, view] for chance in chances)]
        expected = slow_view(images[i], numbers, config, second=view == 1)
        np.testing.assert_allclose(views[i, view], expected, atol=1e-5)


def test_without_an_option_no_number_of_its_stream_is_drawn(random, monkeypatch):
    images, streams = photos(random, 2), []

    def recording(seed, step, stream, positions, count):
        streams.append(stream)
        return random_bits(seed, step, stream, positions, count)

    monkeypatch.setattr(pretext, "random_bits", recording)
    TwoViews(6)(images, 0)
    assert sorted(streams) == [0, 1, 2, 3]
    streams.clear()
    TwoViews(6, EVERY)(images, 0)
    assert sorted(streams) == list(range(8))


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.03, 0.25])
def test_hue_leaves_the_luma_and_is_undone_by_the_opposite_turn(random, turns):
    images = 0.4 + 0.2 * photos(random)  # nothing is clipped
    there = operations.turn_hue(images, np.full(4, turns, "float32"))
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(np.asarray(there) @ weights, images @ weights, atol=1e-6)
    back = operations.turn_hue(there, np.full(4, -turns, "float32"))
    np.testing.assert_allclose(back, images, atol=1e-6)
    assert np.abs(there - images).max() > 0.01


def test_hue_is_that_of_the_published_yiq_matrix(random):
    """The angle counts the other way round in the plane of I and Q."""
    yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    images = 0.4 + 0.2 * photos(random)
    cos, sin = math.cos(2 * math.pi * 0.1), math.sin(2 * math.pi * 0.1)
    turn = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    expected = images @ (np.linalg.inv(yiq) @ turn @ yiq).T
    result = operations.turn_hue(images, np.full(4, 0.1, "float32"))
    np.testing.assert_allclose(result, expected, atol=5e-4)  # the matrix has four digits


def test_hue_turns_red_towards_yellow_and_green_and_leaves_greys():
    red = np.full((1, 2, 2, 3), (0.6, 0.4, 0.4), "float32")
    by_a_third = np.asarray(operations.turn_hue(red, np.float32([1 / 3])))[0, 0, 0]
    assert by_a_third.argmax() == 1
    by_a_sixth = np.asarray(operations.turn_hue(red, np.float32([1 / 6])))[0, 0, 0]
    assert by_a_sixth.argmin() == 2
    grey = np.full((1, 2, 2, 3), 0.3, "float32")
    np.testing.assert_allclose(operations.turn_hue(grey, np.float32([0.3])), grey, atol=1e-6)


def test_no_turn_changes_no_bit(random):
    images = photos(random)
    np.testing.assert_array_equal(operations.turn_hue(images, np.zeros(4, "float32")), images)


def test_a_view_that_is_not_jittered_keeps_every_bit(random):
    images = photos(random, 40)
    config = dataclasses.replace(WHOLE, hue=0.5, jitter_probability=0.0)
    views = TwoViews(6, config, CLEAN)
    crops = np.stack([images, images], axis=1)
    x, _ = views.color(crops, 0, np.arange(40, dtype="int32"))
    np.testing.assert_array_equal(x, operations.normalize(crops.reshape(-1, 6, 6, 3)))


def test_options_have_the_chances_that_they_are_given_and_are_independent(random):
    images = 0.3 + 0.1 * photos(random, 600, 2)
    images[..., 0] += 0.4  # bright red, which is inverted
    config = dataclasses.replace(
        STILL, brightness=0.01, jitter_probability=0.8, greyscale_probability=0.2,
        solarize_probability=0.3,
    )  # fmt: skip
    views = coloured(config, images, seed=1)
    grey = np.ptp(views, axis=-1).max(axis=(2, 3)) < 1e-5  # (600, 2)
    assert grey.mean() == pytest.approx(0.2, abs=0.04)
    solarised = ~grey & (views[..., 0] < 0.5).all(axis=(2, 3))
    assert not solarised[:, 0].any()
    assert solarised[:, 1].sum() / (~grey[:, 1]).sum() == pytest.approx(0.3, abs=0.06)
    untouched = np.abs(views - images[:, None]).max(axis=(2, 3, 4)) < 1e-6
    assert untouched[:, 0].mean() == pytest.approx(0.2 * 0.8, abs=0.05)
    both = grey[:, 0] & grey[:, 1]  # the two views of an image are drawn apart
    assert both.mean() == pytest.approx(0.04, abs=0.025)


def test_an_option_does_not_change_what_another_one_draws(random):
    images = photos(random, 30)
    alone = coloured(dataclasses.replace(STILL, greyscale_probability=0.3), images)
    together = coloured(dataclasses.replace(EVERY, greyscale_probability=0.3), images)
    grey = [np.ptp(views, axis=-1).max(axis=(2, 3)) < 1e-5 for views in (alone, together)]
    np.testing.assert_array_equal(*grey)
    assert 0 < grey[0].sum() < 60


def seen_as(channels, **settings):
    """What makes views of images of so many channels, which are not normalised."""
    preprocessing = dataclasses.replace(
        TwoViews(6).preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    return TwoViews(6, dataclasses.replace(WHOLE, **settings), CLEAN, preprocessing)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_brightness_and_contrast_are_for_any_number_of_channels(random, channels):
    images = random.random((3, 6, 6, channels)).astype("float32")
    factors = np.array([[1.3, 1.0, 0.2], [1.0, 0.5, 0.2], [0.7, 1.6, 1.9]], "float32")
    order = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0]])
    ours = np.asarray(operations.color_jitter(images, factors, order))
    np.testing.assert_allclose(ours[0], np.clip(1.3 * images[0], 0, 1), atol=1e-6)
    mean = images[1].mean()  # of all channels: saturation, which they do not have, changes nothing
    np.testing.assert_allclose(ours[1], 0.5 * images[1] + 0.5 * mean, atol=1e-6)
    contrasted = np.clip(1.6 * images[2] - 0.6 * images[2].mean(), 0, 1)
    np.testing.assert_allclose(ours[2], 0.7 * contrasted, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 5])
def test_hue_saturation_and_grey_leave_other_than_three_channels_alone(random, channels):
    crops = np.repeat(random.random((8, 1, 6, 6, channels)).astype("float32"), 2, axis=1)
    settings = {"brightness": 0.0, "contrast": 0.0, "saturation": 1.0, "hue": 0.5}
    two_views = seen_as(channels, greyscale_probability=1.0, **settings)
    x, _ = two_views.color(crops, 0, np.arange(8, dtype="int32"))
    np.testing.assert_allclose(np.asarray(x).reshape(crops.shape), crops, atol=1e-6)
    brighter = seen_as(channels, brightness=0.5, contrast=0.0, saturation=0.0)
    x, _ = brighter.color(crops, 0, np.arange(8, dtype="int32"))
    assert np.abs(np.asarray(x).reshape(crops.shape) - crops).max() > 0.1


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels_is_solarised(random, channels):
    images = random.random((8, 6, 6, channels)).astype("float32")
    crops = np.stack([images, images], axis=1)
    still = {"brightness": 0.0, "contrast": 0.0, "hue": 0.3, "solarize_probability": 1.0}
    x, _ = seen_as(channels, **still).color(crops, 0, np.arange(8, dtype="int32"))
    x = np.asarray(x).reshape(crops.shape)
    np.testing.assert_allclose(x[:, 0], images, atol=1e-6)
    np.testing.assert_allclose(x[:, 1], np.where(images < 0.5, images, 1 - images), atol=1e-6)
