"""The digits at random places and in random sizes: the same for everybody, whole, well labelled."""

import fractions
import hashlib
import math

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sit_keras.data.sources import load_source, survey_source
from sit_keras.data.translated_digits import CANVAS, draw_squares, translate


@pytest.fixture(scope="module")
def levels():
    """The digits as scikit-learn has them, (1797, 8, 8) from 0 to 16."""
    return load_digits().images


@pytest.fixture(scope="module")
def canvases(levels):
    return translate(levels)


def slow_enlargement(image, side):
    """Bilinear interpolation between the centres of the pixels, in fractions."""
    half, scale = fractions.Fraction(1, 2), fractions.Fraction(8, side)
    centres = [min(max((place + half) * scale - half, 0), 7) for place in range(side)]
    result = np.zeros((side, side), np.uint8)
    for y, x in np.ndindex(side, side):
        total = fractions.Fraction(0)
        for old_y, old_x in np.ndindex(8, 8):
            down, across = abs(centres[y] - old_y), abs(centres[x] - old_x)
            if down < 1 and across < 1:
                total += (1 - down) * (1 - across) * int(image[old_y, old_x])
        result[y, x] = math.floor(total * 255 / 16 + half)
    return result


def test_everybody_has_the_same_pixels(canvases):
    assert canvases.shape == (1797, 28, 28) and canvases.dtype == np.uint8
    assert (
        hashlib.sha256(canvases.tobytes()).hexdigest()
        == "4f7299115d7723748113f4a08b46ed1c9839e8e0f710a127cd44574c93fb8938"
    )


def test_every_digit_is_whole_and_alone_on_its_canvas(levels, canvases):
    squares = draw_squares(1797)
    top, left, side = squares.T
    assert (squares[:, :2] >= 0).all()
    assert (top + side <= CANVAS).all() and (left + side <= CANVAS).all()
    for canvas, image, (top, left, side) in zip(canvases, levels, squares, strict=True):
        rest = canvas.copy()
        window = (slice(top, top + side), slice(left, left + side))
        rest[window] = 0
        assert not rest.any()
        # As light as the digit itself, for its size.
        assert canvas[window].mean() == pytest.approx(image.mean() * 255 / 16, rel=0.12)


def test_a_digit_is_enlarged_as_by_a_slow_transcription_and_by_pillow(levels, canvases):
    sides = set()
    for canvas, image, (top, left, side) in zip(canvases, levels, draw_squares(1797), strict=True):
        found = canvas[top : top + side, left : left + side]
        pixels = np.rint(image * (255 / 16)).astype("uint8")
        pillow = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(found.astype(int) - np.asarray(pillow)).max() <= 1
        if side not in sides:  # one of each size
            np.testing.assert_array_equal(found, slow_enlargement(image, side))
            sides.add(side)
    assert sides == set(range(12, 21))


def test_sizes_and_places_are_uniform():
    top, left, side = draw_squares(20_000).T
    np.testing.assert_allclose(np.bincount(side)[12:] / 20_000, 1 / 9, atol=0.008)
    for corner in (top, left):
        counts = np.bincount(corner[side == 20], minlength=9)
        np.testing.assert_allclose(counts / counts.sum(), 1 / 9, atol=0.03)
    assert np.abs(np.corrcoef([top / (29 - side), left / (29 - side), side])).max(
        initial=0, where=~np.eye(3, dtype=bool)
    ) < 0.04  # fmt: skip
    np.testing.assert_array_equal(draw_squares(10), draw_squares(20_000)[:10])


def test_the_splits_and_the_labels_are_those_of_the_digits():
    moved, plain = load_source("translated_digits"), load_source("digits")
    assert moved.name == "translated_digits"
    assert moved.train.items.shape == (1437, 28, 28, 3)
    assert moved.test.items.shape == (360, 28, 28, 3) and moved.test.items.dtype == np.uint8
    for name in ("train", "test"):
        ours, theirs = getattr(moved, name), getattr(plain, name)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert ours.class_names == theirs.class_names
    assert (np.ptp(moved.train.items, axis=-1) == 0).all()  # grey
    assert survey_source("translated_digits")[:2] == (1437, 1437)


def test_an_image_of_a_split_is_the_digit_of_the_other_set_in_its_place(levels, canvases):
    """The split is drawn over the same order of the images, and the test images are moved too."""
    moved, plain = load_source("translated_digits"), load_source("digits")
    place = {
        np.rint(image * 255 / 16).astype("uint8").tobytes(): i for i, image in enumerate(levels)
    }
    for name in ("train", "test"):
        pairs = zip(getattr(moved, name).items, getattr(plain, name).items, strict=True)
        for ours, theirs in pairs:
            number = place[theirs[..., 0].tobytes()]
            np.testing.assert_array_equal(ours[..., 0], canvases[number])
    corners = draw_squares(1797)[:, :2]
    assert len(np.unique(corners, axis=0)) > 200
