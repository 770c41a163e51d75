import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sit_keras.augment import operations
from sit_keras.config.settings import CorruptionConfig, ViewConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import count_steps, eval_batches, pair_views, step_views
from sit_keras.data.views import TwoViews

CLEAN = CorruptionConfig(grey=False, blur=False, drop=0.0, replace=0.0)
PLAIN = ViewConfig((1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 1.0)
ALL = CorruptionConfig(colour=True)


def pixels(random, count=6, size=12):
    return random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def image_set(random, count=10, size=12):
    return ImageSet(pixels(random, count, size), np.full(count, -1))


def equal(a, b):
    for name in ("corrupted", "clean", "rotation"):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("size", [8, 9, 16, 33, 64, 224])
def test_shapes_at_every_size(random, size):
    views = TwoViews(size, corruption=ALL)(pixels(random, 3, 20), 0)
    assert views["corrupted"].shape == views["clean"].shape == (3, 2, size, size, 3)
    assert views["rotation"].shape == (3, 2)
    assert np.isfinite(views["corrupted"]).all()
    assert np.abs(views["corrupted"] - views["clean"]).max() > 0.1


def test_a_plain_view_is_the_turned_image(random):
    images = pixels(random)
    views = TwoViews(12, PLAIN, CLEAN)(images, 3)
    normal = operations.normalize(images / np.float32(255)).numpy()
    for i in range(len(images)):
        for view in range(2):
            turns = int(views["rotation"][i, view])
            expected = np.rot90(normal[i], -turns)  # clockwise
            np.testing.assert_allclose(views["clean"][i, view], expected, atol=1e-5)
    np.testing.assert_array_equal(views["corrupted"], views["clean"])
    assert len(np.unique(views["rotation"])) == 4


def test_flip_comes_before_the_rotation(random):
    """On mirror-symmetric images the label must follow from the pixels, flipped or not.

    With the rotation first, flipping a quarter turn gives the opposite one, and 90 and 270 degrees
    could not be told apart half of the time.
    """
    half = random.integers(0, 256, (64, 12, 6, 3), dtype=np.uint8)
    images = np.concatenate([half, half[:, :, ::-1]], axis=2)
    config = dataclasses.replace(PLAIN, flip_probability=0.5)
    views = TwoViews(12, config, CLEAN)(images, 0)
    normal = operations.normalize(images / np.float32(255)).numpy()
    for i in range(len(images)):
        for view in range(2):
            candidates = [np.rot90(normal[i], -turns) for turns in range(4)]
            errors = [np.abs(c - views["clean"][i, view]).max() for c in candidates]
            assert np.argmin(errors) == views["rotation"][i, view]


def test_flips_happen_half_of_the_time(random):
    images = pixels(random, 200)
    config = dataclasses.replace(PLAIN, flip_probability=0.5)
    views = TwoViews(12, config, CLEAN)(images, 0)
    normal = operations.normalize(images / np.float32(255)).numpy()
    upright = [
        np.rot90(v, int(k))
        for v, k in zip(views["clean"][:, 0], views["rotation"][:, 0], strict=True)
    ]
    plain = np.abs(np.array(upright) - normal).max(axis=(1, 2, 3)) < 1e-4
    assert 0.38 < plain.mean() < 0.62


def test_resizing_leaves_no_trace_of_the_angle(random):
    """Turned back, a view is the upright crop to the last bit: resizing happened before."""
    views = TwoViews(16, ViewConfig(brightness=0, contrast=0, saturation=0), CLEAN, seed=4)
    crops = views.crop(pixels(random, 8, 21), 5)
    turned = views.finish(crops, 5)
    for i, view in itertools.product(range(8), range(2)):
        upright = np.rot90(turned["clean"][i, view], int(turned["rotation"][i, view]))
        np.testing.assert_array_equal(upright, operations.normalize(crops)[i, view])


def test_the_same_seed_and_step_draw_the_same_views(random):
    images = pixels(random)
    first = TwoViews(12, corruption=ALL, seed=5)(images, 7)
    equal(first, TwoViews(12, corruption=ALL, seed=5)(images, 7))
    for other in (TwoViews(12, corruption=ALL, seed=5)(images, 8), TwoViews(12, seed=6)(images, 7)):
        assert np.abs(other["clean"] - first["clean"]).max() > 0.1


def test_the_two_views_differ(random):
    views = TwoViews(12)(pixels(random), 0)
    assert (np.abs(views["clean"][:, 0] - views["clean"][:, 1]).max(axis=(1, 2, 3)) > 0.1).all()


def test_one_image_at_a_time_gives_the_same_crops(random):
    images = pixels(random)
    views = TwoViews(10, seed=2)
    together = views.crop(images, 4)
    for position in range(len(images)):
        one = views.crop_one(images[position], 4, position, len(images))
        np.testing.assert_allclose(one, together[position], atol=1e-6)


def test_each_corruption_does_its_part(random):
    images = pixels(random, 16, 32)
    for name in ("grey", "blur", "drop", "replace"):
        only = dataclasses.replace(CLEAN, **{name: getattr(CorruptionConfig(), name)})
        views = TwoViews(32, PLAIN, only)(images, 0)
        changed = np.abs(views["corrupted"] - views["clean"]).max(axis=-1) > 1e-5
        assert 0.01 < changed.mean() < 0.4, name
        if name == "grey":
            grey = views["corrupted"].numpy()[changed]
            np.testing.assert_allclose(grey.max(-1), grey.min(-1), atol=1e-5)
        if name == "drop":
            noise = views["corrupted"].numpy()[changed]
            assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
        if name == "replace":
            whole = views["clean"].numpy().reshape(-1, 32, 32, 3)
            spoilt = views["corrupted"].numpy().reshape(-1, 32, 32, 3)
            for image, mask in zip(spoilt, changed.reshape(-1, 32, 32), strict=True):
                donors = [np.allclose(image[mask], other[mask], atol=1e-5) for other in whole]
                assert any(donors)


# --- Datasets -------------------------------------------------------------------------------------


def test_a_resumed_run_draws_the_same_views(random):
    images, views = image_set(random), TwoViews(12, corruption=ALL, seed=3)
    whole = list(step_views(images, views, 4, 0, 7))
    for start in (2, 5):
        for a, b in zip(whole[start:], step_views(images, views, 4, start, 7), strict=True):
            equal(a, b)


def test_an_epoch_visits_each_image_once_in_a_new_order(random):
    images = ImageSet(
        np.repeat(np.arange(12, dtype=np.uint8)[:, None, None, None], 3, -1)
        * np.ones((12, 8, 8, 3), np.uint8),
        np.full(12, -1),
    )
    batches = step_views(images, TwoViews(8, PLAIN, CLEAN), 4, 0, 6)
    shown = [
        np.rint(np.array(operations.denormalize(b["clean"])[:, 0, 0, 0, 0]) * 255) for b in batches
    ]
    epochs = np.concatenate(shown).reshape(2, 12)
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(12)] * 2)
    assert (epochs[0] != epochs[1]).any() and (epochs[0] != np.arange(12)).any()


@pytest.fixture
def mixed_files(random, tmp_path):
    paths = []
    for i, size in enumerate([(8, 30), (64, 20), (9, 9), (100, 120), (31, 17), (12, 12)]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[-1])
    return ImageSet(np.array(paths), np.full(6, -1))


def test_files_of_mixed_sizes(mixed_files):
    views = TwoViews(16, corruption=ALL, seed=3)
    dataset = step_views(mixed_files, views, 3, 0, 4)
    assert len(dataset) == 4
    whole = list(dataset)
    assert whole[0]["corrupted"].shape == (3, 2, 16, 16, 3)
    for a, b in zip(whole[3:], step_views(mixed_files, views, 3, 3, 4), strict=True):
        equal(a, b)


def test_files_and_pixels_give_the_same_views(random, tmp_path):
    images = image_set(random)
    paths = [str(tmp_path / f"{i}.png") for i in range(len(images))]
    for path, image in zip(paths, images.items, strict=True):
        Image.fromarray(image).save(path)
    files = ImageSet(np.array(paths), images.labels)
    views = TwoViews(10, corruption=ALL, seed=1)
    datasets = (step_views(each, views, 4, 0, 3) for each in (images, files))
    for a, b in zip(*datasets, strict=True):
        np.testing.assert_allclose(a["corrupted"], b["corrupted"], atol=1e-5)
        np.testing.assert_array_equal(a["rotation"], b["rotation"])


def test_a_users_own_dataset(random):
    images = pixels(random, 8)
    views = TwoViews(12, corruption=ALL)
    batched = pair_views(tf.data.Dataset.from_tensor_slices(images).batch(4), views)
    single = pair_views(tf.data.Dataset.from_tensor_slices(images), views, batch_size=4)
    floats = pair_views(tf.data.Dataset.from_tensor_slices(images / 255.0).batch(4), views)
    for a, b, c in zip(batched, single, floats, strict=True):
        np.testing.assert_allclose(a["corrupted"], b["corrupted"], atol=1e-5)
        np.testing.assert_allclose(a["corrupted"], c["corrupted"], atol=1e-5)


def test_a_users_dataset_that_does_not_fit(random):
    images = pixels(random, 4)
    views = TwoViews(12)
    slices = tf.data.Dataset.from_tensor_slices
    with pytest.raises(ValueError, match="without labels"):
        pair_views(slices((images, np.arange(4))), views)
    with pytest.raises(ValueError, match="give batch_size"):
        pair_views(slices(images), views)
    with pytest.raises(ValueError, match="leave batch_size out"):
        pair_views(slices(images).batch(2), views, batch_size=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must lie in \[0, 1\]"):
        list(pair_views(slices(images.astype("float32")).batch(2), views))


def test_fewer_images_than_a_batch(random):
    with pytest.raises(ValueError, match="A batch of 11 is larger than the 10 images"):
        step_views(image_set(random), TwoViews(12), 11, 0, 5)
    assert count_steps(10, 4) == 2


def test_evaluation_takes_the_centre(random, mixed_files):
    images = image_set(random, 5, 16)
    (batch,) = eval_batches(images, 12, eval_crop=0.75)
    expected = operations.normalize(images.items[:, 2:14, 2:14] / np.float32(255))
    np.testing.assert_allclose(batch, expected, atol=1e-5)
    (batch,) = eval_batches(mixed_files, 16, eval_crop=0.875)
    assert batch.shape == (6, 16, 16, 3)
