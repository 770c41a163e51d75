"""RandAugment against Pillow, operation by operation, and its distributions."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from sit_keras.augment.rand_augment import OPERATIONS, ROUND_NUMBERS, apply_round, draw_round

LEVELS = (-1.0, -0.9, -0.33, 0.33, 0.9, 1.0)


def photos(random, count=4):
    """Smooth images, as uint8, one of them dark and one of one colour."""
    ramp = np.linspace(0, 1, 24)
    images = []
    for _ in range(count):
        a, b, c = random.normal(size=(3, 3)) * 60
        image = 120 + a * np.sin(5 * ramp)[:, None, None] + b * np.cos(7 * ramp)[None, :, None] + c
        images.append(image)
    images = np.clip(np.array(images) + random.normal(size=(count, 24, 24, 3)) * 9, 0, 255)
    images[1] = images[1] // 4 + 20
    images[2] = (17, 99, 203)
    return np.floor(images).astype("uint8")


def affine(image, *matrix):
    fill = tuple(round(255 * mean) for mean in (0.485, 0.456, 0.406))
    return image.transform(image.size, Image.AFFINE, matrix, Image.BILINEAR, fillcolor=fill)


def solarize_add(image, add):
    values = np.asarray(image).astype(int)
    return Image.fromarray(
        np.where(values < 128, np.minimum(255, values + add), values).astype("uint8")
    )


def pillow(name, image, level):
    """The same operation as timm does it."""
    strength, width, height = abs(level), *image.size
    factor = 1 + 0.9 * level
    return {
        "auto_contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "posterize": lambda: image.point(
            [v & ~(2 ** (4 + int(4 * strength)) - 1) for v in range(256)] * 3
        ),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(256 * strength)),
        "solarize_add": lambda: solarize_add(image, int(110 * strength)),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "rotate": lambda: image.rotate(30 * level, Image.BILINEAR),
        "shear_x": lambda: affine(image, 1, 0.3 * level, 0, 0, 1, 0),
        "shear_y": lambda: affine(image, 1, 0, 0, 0.3 * level, 1, 0),
        "translate_x": lambda: affine(image, 1, 0, 0.45 * level * width, 0, 1, 0),
        "translate_y": lambda: affine(image, 1, 0, 0, 0, 1, 0.45 * level * height),
    }[name]()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_against_pillow(random, name, level):
    """Within a grey value or two; moved images where they do not touch what came in."""
    images = photos(random)
    index = np.full(len(images), OPERATIONS.index(name))
    levels = np.full(len(images), level, "float32")
    ours = np.asarray(apply_round(images.astype("float32") / 255, index, levels)) * 255
    theirs = np.array([pillow(name, Image.fromarray(image), level) for image in images]).astype(
        float
    )
    difference = np.abs(ours - theirs)
    if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        inside = np.array(
            [pillow(name, Image.new("RGB", (24, 24), "white"), level) for _ in images]
        ).min(axis=-1, keepdims=True)
        kept = np.broadcast_to(inside == 255, difference.shape).copy()
        kept[:, [0, -1]] = kept[:, :, [0, -1]] = False
        for axis in (1, 2):  # a pixel at a seam is half of what came in
            kept &= np.roll(kept, 1, axis) & np.roll(kept, -1, axis)
        assert kept.mean() > 0.2
        difference = np.where(kept, difference, 0)
    assert difference.max() <= 2.01


def test_nothing_drawn_changes_nothing(random):
    images = photos(random).astype("float32") / 255
    same = apply_round(images, np.full(4, -1), np.full(4, 0.9, "float32"))
    np.testing.assert_allclose(same, images, atol=1e-5)


def test_each_image_gets_its_own(random):
    images = photos(random, 15).astype("float32") / 255
    index, levels = np.arange(15), random.uniform(-1, 1, 15).astype("float32")
    together = apply_round(images, index, levels)
    for i in range(15):
        alone = apply_round(images[i : i + 1], index[i : i + 1], levels[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)


def test_laws(random):
    operation, level = map(np.asarray, draw_round(random.random((60_000, ROUND_NUMBERS)), 9.0))
    assert np.mean(operation == -1) == pytest.approx(0.5, abs=0.01)
    counts = np.bincount(operation[operation >= 0], minlength=15) / 30_000
    np.testing.assert_allclose(counts, 1 / 15, atol=0.006)
    assert np.mean(level > 0) == pytest.approx(0.5, abs=0.01)
    strength = 10 * np.abs(level)
    # 2.3 % of a normal distribution of mean 9 and deviation 0.5 lie above.
    assert strength.max() == 10
    assert np.mean(strength == 10) == pytest.approx(0.0228, abs=0.003)
    below = strength[strength < 9]
    assert np.sqrt(np.mean((below - 9) ** 2)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", OPERATIONS)
def test_other_channels_are_changed_as_those_of_grey_photos_are(random, name, channels):
    images = photos(random)[..., :1].repeat(3, axis=-1).astype("float32") / 255
    operation = np.full(len(images), OPERATIONS.index(name), "int32")
    level = np.full(len(images), 0.6, "float32")
    grey = np.asarray(apply_round(images, operation, level, (0.4,) * 3))
    others = images[..., :1].repeat(channels, axis=-1)
    ours = np.asarray(apply_round(others, operation, level, (0.4,) * channels))
    np.testing.assert_allclose(ours, grey[..., :1].repeat(channels, axis=-1), atol=1.01 / 255)
