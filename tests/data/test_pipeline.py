"""Images of each step for training, and normalised images for evaluation."""

import os

import numpy as np
import pytest
from PIL import Image

from sit_keras.augment import operations
from sit_keras.augment.pretext import TwoViews
from sit_keras.config.settings import CorruptionConfig, ViewConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import (
    Shard,
    count_steps,
    eval_batches,
    lost_images_explained,
    step_images,
    step_views,
)
from sit_keras.data.reading import read_image
from sit_keras.models.preprocessing import ImagePreprocessing

ALL = CorruptionConfig(colour=True)
# What mixes images of a batch, without what takes long to compile and looks at one view alone.
MIXING = CorruptionConfig(grey=False, blur=False)


def image_set(random, count=10, size=12):
    pixels = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ImageSet(pixels, np.full(count, -1))


def equal(a, b):
    for name in ("corrupted", "clean", "rotation"):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture
def mixed_files(random, tmp_path):
    paths = []
    for i, size in enumerate([(8, 30), (64, 20), (9, 9), (100, 120), (31, 17), (12, 12)]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[-1])
    return ImageSet(np.array(paths), np.full(6, -1))


def test_the_pipeline_makes_the_views_that_a_model_makes_of_its_images(random):
    images, two_views = image_set(random, 20), TwoViews(12, corruption=ALL, seed=3)
    pairs = zip(
        step_views(images, two_views, 8, 5, 8), step_images(images, two_views, 8, 5, 8), strict=True
    )
    for step, (views, pixels) in enumerate(pairs, 5):
        made = two_views(pixels, step)
        np.testing.assert_array_equal(views["rotation"], made["rotation"])
        for name in ("clean", "corrupted"):
            # 1e-5 in pixels from 0 to 1, which are divided by a deviation of about 0.23.
            np.testing.assert_allclose(views[name], made[name], atol=5e-5)


def test_a_resumed_run_sees_the_same_views(random):
    images, two_views = image_set(random), TwoViews(12, corruption=MIXING, seed=3)
    whole = list(step_views(images, two_views, 4, 0, 7))
    for a, b in zip(whole[5:], step_views(images, two_views, 4, 5, 7), strict=True):
        equal(a, b)
    whole = list(step_images(images, two_views, 4, 0, 7))
    for start in (2, 5):  # at the beginning of an epoch, and within one
        for a, b in zip(whole[start:], step_images(images, two_views, 4, start, 7), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_epoch_visits_each_image_once_in_a_new_order():
    numbers = np.arange(12, dtype=np.uint8)
    images = ImageSet(
        numbers[:, None, None, None] * np.ones((12, 8, 8, 3), np.uint8), np.full(12, -1)
    )
    batches = step_images(images, TwoViews(8), 4, 0, 6)
    epochs = np.concatenate([batch[:, 0, 0, 0] for batch in batches]).reshape(2, 12)
    np.testing.assert_array_equal(np.sort(epochs), [numbers] * 2)
    assert (epochs[0] != epochs[1]).any() and (epochs[0] != numbers).any()


@pytest.mark.parametrize("in_files", [False, True])
def test_shards_are_the_parts_of_the_whole_batch(random, mixed_files, in_files):
    """Two processes with two devices each: every device's images, and its alone, are made."""
    images = mixed_files if in_files else image_set(random)
    whole = list(step_images(images, TwoViews(12, seed=1), 4, 1, 4))
    shards = [
        list(step_images(images, TwoViews(12, seed=1), 4, 1, 4, shard=Shard(first, 2, 4)))
        for first in (0, 2)
    ]
    assert [len(shard) for shard in shards] == [6, 6]
    for step, expected in enumerate(whole):
        parts = [shard[2 * step + device] for shard in shards for device in (0, 1)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_shard_of_views_has_the_views_of_its_positions(random):
    images, two_views = image_set(random, 32), TwoViews(12, corruption=MIXING, seed=1)
    (whole,) = step_views(images, two_views, 32, 3, 4)
    (second,) = step_views(images, two_views, 32, 3, 4, shard=Shard(1, 1, 2))
    equal({name: value[16:] for name, value in whole.items()}, second)


def test_files_of_mixed_sizes_become_pairs_of_crops(mixed_files):
    two_views = TwoViews(16, corruption=MIXING, seed=3)
    crops = list(step_images(mixed_files, two_views, 3, 0, 4))
    assert len(crops) == 4
    assert crops[0].shape == (3, 2, 16, 16, 3) and crops[0].dtype == np.uint8
    (again,) = step_images(mixed_files, two_views, 3, 3, 4)
    np.testing.assert_array_equal(crops[3], again)
    (views,) = step_views(mixed_files, two_views, 3, 3, 4)
    assert views["corrupted"].shape == (3, 2, 16, 16, 3)


def test_files_and_pixels_give_the_same_views_but_for_rounding(random, tmp_path):
    images = image_set(random)
    paths = [str(tmp_path / f"{i}.png") for i in range(len(images))]
    for path, image in zip(paths, images.items, strict=True):
        Image.fromarray(image).save(path)
    files = ImageSet(np.array(paths), images.labels)
    plain = CorruptionConfig(grey=False, blur=False, drop=0.0, replace=0.0)
    colours = ViewConfig(hue=0.1, greyscale_probability=0.2, solarize_probability=0.5)
    two_views = TwoViews(10, colours, plain, seed=1)
    datasets = (step_views(each, two_views, 4, 0, 3) for each in (images, files))
    for a, b in zip(*datasets, strict=True):
        np.testing.assert_allclose(a["clean"], b["clean"], atol=0.03)
        np.testing.assert_array_equal(a["rotation"], b["rotation"])


def test_jpegs_that_are_decoded_smaller_give_the_crops_of_the_whole_image(random, tmp_path):
    """Turned ones too, and for training as for evaluation."""
    exif, wholes, jpegs = Image.Exif(), [], []
    exif[0x0112] = 6
    for i, (width, height) in enumerate([(300, 240), (230, 230)]):
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        jpegs.append(str(tmp_path / f"{i}.jpg"))
        wholes.append(str(tmp_path / f"{i}.png"))
        photo = small.resize((width, height), Image.Resampling.BICUBIC)
        photo.save(jpegs[-1], quality=95, exif=exif)
        Image.fromarray(read_image(jpegs[-1])).save(wholes[-1])
    whole, jpeg = (ImageSet(np.array(each), np.full(2, -1)) for each in (wholes, jpegs))
    views = TwoViews(64, seed=1)  # files of other kinds are read up to four times as large
    differences = [
        np.abs(a.numpy().astype(int) - b.numpy())
        for a, b in zip(*(step_images(each, views, 2, 0, 4) for each in (whole, jpeg)), strict=True)
    ]
    assert np.max(differences) > 0  # some were decoded smaller
    assert np.mean(differences) < 1.5
    sets = (eval_batches(each, ImagePreprocessing((32, 32, 3))) for each in (whole, jpeg))
    for a, b in zip(*sets, strict=True):
        assert 0 < np.abs(a - b).mean() < 0.06  # of values that deviate by about 1


def test_files_whose_names_are_not_utf8_are_read_for_training_and_evaluation(random, tmp_path):
    images = image_set(random, 3, 16)
    paths = [os.path.join(tmp_path, os.fsdecode(name)) for name in (b"caf\xe9.png", b"\xff", b"a")]
    for path, image in zip(paths, images.items, strict=True):
        Image.fromarray(image).save(path, format="png")
    files = ImageSet(np.array(paths), images.labels)
    steps = list(step_images(files, TwoViews(12, seed=1), 3, 0, 2))
    assert [step.shape for step in steps] == [(3, 2, 12, 12, 3)] * 2
    preprocessing = ImagePreprocessing((16, 16, 3))
    (expected,), (batch,) = (eval_batches(each, preprocessing) for each in (images, files))
    np.testing.assert_allclose(batch, expected, atol=1e-5)


def test_fewer_images_than_a_batch_are_refused(random):
    with pytest.raises(ValueError, match="A batch of 11 is larger than the 10 images"):
        step_images(image_set(random), TwoViews(12), 11, 0, 5)
    assert count_steps(10, 4) == 2


def test_where_no_image_is_left_the_share_that_is_held_out_is_named():
    with pytest.raises(ValueError, match="^No image is left to train on: lower --holdout, or use"):
        count_steps(0, 4)


def test_evaluation_takes_the_centre_of_pixels_and_of_files(random, mixed_files):
    images = image_set(random, 5, 16)
    (batch,) = eval_batches(images, ImagePreprocessing((12, 12, 3), crop=0.75))
    expected = operations.normalize(images.items[:, 2:14, 2:14] / np.float32(255))
    np.testing.assert_allclose(batch, expected, atol=1e-5)
    (batch,) = eval_batches(mixed_files, ImagePreprocessing((16, 16, 3)))
    assert batch.shape == (6, 16, 16, 3)


def test_evaluation_normalises_by_the_statistics_that_it_is_given(random):
    images = image_set(random, 3, 8)
    preprocessing = ImagePreprocessing(
        (8, 8, 3), crop=1.0, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), value_range=(0, 1)
    )
    (batch,) = eval_batches(images, preprocessing)
    expected = (images.items / 255 - (0.5, 0.4, 0.3)) / (0.1, 0.2, 0.3)
    np.testing.assert_allclose(batch, expected, atol=1e-4)


def test_a_file_that_is_lost_after_it_was_found_is_named_in_a_sentence(tmp_path):
    images = ImageSet(np.array([str(tmp_path / "gone.png")]), np.zeros(1, int))
    with pytest.raises(OSError, match=r"^\S*gone\.png: No such file or directory\.$"):
        with lost_images_explained():
            list(eval_batches(images, ImagePreprocessing((8, 8, 3))))
