"""The two views of an image: what they are made of, and that they can be made again."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from sit_keras.augment import operations, sampling
from sit_keras.augment.crops import CROP_NUMBERS
from sit_keras.augment.pretext import APPEARANCE_NUMBERS, TwoViews
from sit_keras.augment.random import random_bits, uniform
from sit_keras.augment.resizing import resized_crop
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.settings import CorruptionConfig, ViewConfig

CLEAN = CorruptionConfig(grey=False, blur=False, drop=0.0, replace=0.0)
PLAIN = ViewConfig((1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0, 0.0)
ALL = CorruptionConfig(colour=True)
# Every option that is off by default.
EVERY = ViewConfig(
    jitter_probability=0.8, hue=0.1, greyscale_probability=0.2, solarize_probability=0.2
)
SETTINGS = [(ViewConfig(), ALL), (EVERY, CorruptionConfig(align=4))]


def pixels(random, count=6, size=12):
    return random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def equal(a, b):
    for name in ("corrupted", "clean", "rotation"):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def normal(images):
    return operations.normalize(images / np.float32(255)).numpy()


@pytest.mark.parametrize("size", [8, 9, 16, 33, 64, 224])
def test_views_have_the_size_asked_for_at_every_size(random, size):
    views = TwoViews(size, corruption=ALL)(pixels(random, 3, 20), 0)
    assert views["corrupted"].shape == views["clean"].shape == (3, 2, size, size, 3)
    assert views["rotation"].shape == (3, 2)
    assert np.isfinite(views["corrupted"]).all()
    assert np.abs(views["corrupted"] - views["clean"]).max() > 0.1


def test_a_view_without_crop_and_colour_is_the_turned_image(random):
    images = pixels(random)
    views = TwoViews(12, PLAIN, CLEAN)(images, 3)
    for i, view in itertools.product(range(len(images)), range(2)):
        turns = int(views["rotation"][i, view])
        expected = np.rot90(normal(images)[i], -turns)  # clockwise
        np.testing.assert_allclose(views["clean"][i, view], expected, atol=1e-5)
    np.testing.assert_array_equal(views["corrupted"], views["clean"])
    assert len(np.unique(views["rotation"])) == 4


def test_a_view_by_hand_is_cropped_then_coloured_then_normalised_then_turned(random):
    """Every number of a view worked out from the random numbers of its image."""
    images, seed, step = pixels(random, 5, 30), 4, 9
    preprocessing = PreprocessingConfig(mean=(0.3, 0.4, 0.5), std=(0.1, 0.2, 0.3))
    two_views = TwoViews(16, corruption=CLEAN, preprocessing=preprocessing, seed=seed)
    views = two_views(images, step)
    for i in range(5):
        numbers = [
            np.asarray(uniform(random_bits(seed, step, stream, [i], 2 * count))).reshape(2, -1)
            for stream, count in ((0, CROP_NUMBERS), (1, APPEARANCE_NUMBERS))
        ]
        for view, (crop, appearance) in enumerate(zip(*numbers, strict=True)):
            box = sampling.crop_boxes(crop[None, None, 1:], 30, 30, ViewConfig())
            cut = resized_crop(
                images[i : i + 1] / np.float32(255), box, np.array([[crop[0] < 0.5]]), (16, 16)
            )
            factors, order = sampling.jitter(appearance[None, 1:], ViewConfig())
            coloured = operations.color_jitter(cut[:, 0], factors, order).numpy()[0]
            turns = int(appearance[0] * 4)
            expected = np.rot90((coloured - preprocessing.mean) / preprocessing.std, -turns)
            np.testing.assert_allclose(views["clean"][i, view], expected, atol=1e-4)
            assert int(views["rotation"][i, view]) == turns


def test_the_flip_comes_before_the_rotation(random):
    """On mirror-symmetric images the label must follow from the pixels, flipped or not.

    With the rotation first, flipping a quarter turn gives the opposite one, and 90 and 270 degrees
    could not be told apart half of the time.
    """
    half = random.integers(0, 256, (64, 12, 6, 3), dtype=np.uint8)
    images = np.concatenate([half, half[:, :, ::-1]], axis=2)
    config = dataclasses.replace(PLAIN, flip_probability=0.5)
    views = TwoViews(12, config, CLEAN)(images, 0)
    for i, view in itertools.product(range(len(images)), range(2)):
        candidates = [np.rot90(normal(images)[i], -turns) for turns in range(4)]
        errors = [np.abs(c - views["clean"][i, view]).max() for c in candidates]
        assert np.argmin(errors) == views["rotation"][i, view]


def test_flips_happen_half_of_the_time(random):
    images = pixels(random, 200)
    config = dataclasses.replace(PLAIN, flip_probability=0.5)
    views = TwoViews(12, config, CLEAN)(images, 0)
    upright = [
        np.rot90(v, int(k))
        for v, k in zip(views["clean"][:, 0], views["rotation"][:, 0], strict=True)
    ]
    plain = np.abs(np.array(upright) - normal(images)).max(axis=(1, 2, 3)) < 1e-4
    assert 0.38 < plain.mean() < 0.62


def test_resizing_leaves_no_trace_of_the_angle(random):
    """Turned back, a view is the upright crop to the last bit: resizing happened before."""
    views = TwoViews(16, ViewConfig(brightness=0, contrast=0, saturation=0), CLEAN, seed=4)
    crops = views.crop(pixels(random, 8, 21), 5, tf.range(8))
    colored, rotation = views.color(crops, 5, tf.range(8))
    turned = operations.rotate(colored, rotation).numpy()
    for i in range(16):
        upright = np.rot90(turned[i], int(rotation[i]))
        np.testing.assert_array_equal(upright, operations.normalize(crops)[i // 2, i % 2])


def test_the_same_seed_and_step_make_the_same_views_again(random):
    images = pixels(random)
    first = TwoViews(12, corruption=ALL, seed=5)(images, 7)
    equal(first, TwoViews(12, corruption=ALL, seed=5)(images, 7))
    for other in (TwoViews(12, corruption=ALL, seed=5)(images, 8), TwoViews(12, seed=6)(images, 7)):
        assert np.abs(other["clean"] - first["clean"]).max() > 0.1


def test_the_two_views_of_an_image_differ(random):
    views = TwoViews(12)(pixels(random), 0)
    assert (np.abs(views["clean"][:, 0] - views["clean"][:, 1]).max(axis=(1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=["usual", "every option"])
def test_two_devices_with_sixteen_images_each_make_the_views_of_the_whole_batch(
    random, settings, compiled
):
    images, two_views = pixels(random, 32, 20), TwoViews(16, *settings, seed=3)
    make = tf.function(two_views, jit_compile=compiled, autograph=False)
    step = tf.constant(6, tf.int64)
    whole = make(images, step, tf.constant(0))
    parts = [make(images[first : first + 16], step, tf.constant(first)) for first in (0, 16)]
    together = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    np.testing.assert_array_equal(whole["rotation"], together["rotation"])
    for name in ("clean", "corrupted"):
        if compiled:
            np.testing.assert_array_equal(whole[name], together[name])
        else:
            np.testing.assert_allclose(whole[name], together[name], atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=["usual", "every option"])
def test_compiled_views_agree_with_eager_ones(random, settings):
    two_views, images = TwoViews(16, *settings, seed=3), pixels(random, 16, 20)
    eager = two_views(images, 6)
    compiled = tf.function(two_views, jit_compile=True, autograph=False)(images, 6, 0)
    np.testing.assert_array_equal(eager["rotation"], compiled["rotation"])
    for name in ("clean", "corrupted"):
        np.testing.assert_allclose(eager[name], compiled[name], atol=5e-5)  # of normalised pixels


def test_the_value_range_scales_the_images(random):
    images = pixels(random)
    expected = TwoViews(12, corruption=ALL)(images, 2)
    for value_range, scaled in (((0, 1), images / 255.0), ((-1, 1), images / 127.5 - 1.0)):
        preprocessing = PreprocessingConfig(value_range=value_range)
        views = TwoViews(12, corruption=ALL, preprocessing=preprocessing)(
            scaled.astype("float32"), 2
        )
        np.testing.assert_allclose(views["corrupted"], expected["corrupted"], atol=1e-4)


def test_each_corruption_changes_what_it_should_and_nothing_else(random):
    images = pixels(random, 16, 32)
    for name in ("grey", "blur", "drop", "replace", "colour"):
        strength = getattr(CorruptionConfig(colour=True), name)
        only = dataclasses.replace(CLEAN, **{name: strength})
        views = {k: np.asarray(v) for k, v in TwoViews(32, PLAIN, only)(images, 0).items()}
        changed = np.abs(views["corrupted"] - views["clean"]).max(axis=-1) > 1e-5
        assert 0.01 < changed.mean() < 0.4, name
        if name == "grey":
            expected = views["clean"].mean(axis=-1, keepdims=True)[changed]
            np.testing.assert_allclose(
                views["corrupted"][changed], np.repeat(expected, 3, -1), atol=1e-5
            )
        if name == "drop":
            noise = views["corrupted"][changed]
            assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
        if name == "replace":
            whole = views["clean"].reshape(-1, 32, 32, 3)
            corrupted = views["corrupted"].reshape(-1, 32, 32, 3)
            for number, (image, mask) in enumerate(
                zip(corrupted, changed.reshape(-1, 32, 32), strict=True)
            ):
                donors = [np.allclose(image[mask], other[mask], atol=1e-5) for other in whole]
                # Images 0 to 7 and 8 to 15 replace each other's blocks, in the same view.
                group = [n for n in range(32) if n // 16 == number // 16 and n % 2 == number % 2]
                assert any(donors[n] for n in group if n != number) or not mask.any()


def test_images_of_whole_numbers_are_not_normalised_in_silence(random):
    with pytest.raises(ValueError, match="received .*uint8.*divide them by 255"):
        operations.normalize(pixels(random))


@pytest.mark.parametrize("name", ["drop", "replace"])
def test_aligned_corruption_takes_whole_patches(random, name):
    only = dataclasses.replace(CLEAN, **{name: 0.5}, align=4)
    views = TwoViews(28, PLAIN, only)(pixels(random, 16, 28), 0)
    changed = (np.asarray(views["corrupted"]) != np.asarray(views["clean"])).any(axis=-1)
    share = changed.reshape(32, 7, 4, 7, 4).mean(axis=(2, 4))  # of each patch
    assert set(np.unique(share)) == {0.0, 1.0}
    assert 0.1 < share.mean() < 0.4


def test_blocks_that_cannot_be_aligned_with_the_image_are_refused():
    for align in (3, 56):
        with pytest.raises(ValueError, match=f"corruption.align={align} must divide .* 28: take"):
            TwoViews(28, corruption=CorruptionConfig(align=align))
