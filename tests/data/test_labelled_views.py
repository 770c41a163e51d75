"""Augmented batches with their labels: the distributions of mixing and erasing, and the targets."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sit_keras.augment import operations, sampling
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.settings import ViewConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.labelled_views import AugmentedViews, labelled_views

WHOLE = ViewConfig(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip_probability=0.0)
PLAIN = FinetuneConfig(
    views=WHOLE, rand_augment=0, erasing=0, mixup=0, cutmix=0, label_smoothing=0, seed=3
)


def grey_images(count=12, size=8):
    """Images of one grey each, which differs from all others, with their number as class."""
    greys = np.arange(count, dtype="uint8") * 20
    items = np.broadcast_to(greys[:, None, None, None], (count, size, size, 3)).copy()
    return ImageSet(items, np.arange(count), tuple(map(str, range(count))))


def batches(images, config, start=0, end=6, batch_size=4):
    views = AugmentedViews(8, config)
    data = labelled_views(images, views, batch_size, start, end)
    return [(x.numpy(), y.numpy()) for x, y in data]


def test_each_target_is_that_of_its_image_and_each_epoch_has_all_images():
    seen = []
    for views, targets in batches(grey_images(), PLAIN):
        grey = np.rint(np.asarray(operations.denormalize(views))[:, 0, 0, 0] * 255 / 20)
        np.testing.assert_array_equal(grey, targets.argmax(axis=1))
        np.testing.assert_array_equal(targets.sum(axis=1), 1)
        seen.append(targets.argmax(axis=1))
    for epoch in (seen[:3], seen[3:]):  # every image, in another order each time
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(12))
    assert (np.concatenate(seen[:3]) != np.concatenate(seen[3:])).any()


def test_training_with_labels_leaves_colours_to_rand_augment():
    colours = dataclasses.replace(
        WHOLE, hue=0.5, greyscale_probability=1.0, solarize_probability=1.0, jitter_probability=0.5
    )
    pixels = np.arange(12 * 64 * 3).astype("uint8").reshape(12, 8, 8, 3)
    images = dataclasses.replace(grey_images(), items=pixels)
    ours, plain = (
        batches(images, dataclasses.replace(PLAIN, views=views)) for views in (colours, WHOLE)
    )
    for (x, _), (y, _) in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_step_is_reproducible_and_files_give_the_same_as_images_in_memory(tmp_path):
    config = dataclasses.replace(FinetuneConfig(), rand_augment=1, seed=5)
    images = grey_images()
    whole = batches(images, config)
    for (x, y), (x2, y2) in zip(whole[4:], batches(images, config, start=4), strict=True):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
    for i, item in enumerate(images.items):
        Image.fromarray(item).save(tmp_path / f"{i:02}.png")
    paths = np.array([str(path) for path in sorted(tmp_path.glob("*.png"))])
    files = dataclasses.replace(images, items=paths)
    for (x, y), (x2, y2) in zip(whole, batches(files, config), strict=True):
        np.testing.assert_allclose(x, x2, atol=1e-5)
        np.testing.assert_array_equal(y, y2)
    other = batches(images, dataclasses.replace(config, seed=6), end=1)
    assert not np.allclose(whole[0][0], other[0][0])


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_targets_are_mixed_as_the_images_are(kind):
    """The target follows from the mean grey of images that have one grey each."""
    config = dataclasses.replace(PLAIN, **{kind: 1.0})
    shares = []
    for views, targets in batches(grey_images(), config, end=60):
        grey = np.asarray(operations.denormalize(views)).mean(axis=(1, 2, 3)) * 255 / 20
        np.testing.assert_allclose(grey, targets @ np.arange(12), atol=1e-3)
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
        assert ((targets > 0).sum(axis=1) <= 2).all()
        shares.append(targets.max(axis=1).mean())
        if kind == "cutmix":
            pixels = np.unique(np.rint(views[0, :, :, 0] * 1000))
            assert len(pixels) <= 2
    # The larger of two uniform shares is 3/4 on average. It is 0.754 for the boxes of CutMix, which
    # have whole sides and are cut at the border (a simulation of 200,000 boxes of 8 x 8 images).
    assert np.mean(shares) == pytest.approx(0.75 if kind == "mixup" else 0.754, abs=0.05)


def test_images_without_a_label_are_refused():
    images = grey_images()
    some = dataclasses.replace(images, labels=np.where(images.labels == 3, -1, images.labels))
    with pytest.raises(ValueError, match="1 of 12 images have no label"):
        labelled_views(some, AugmentedViews(8, PLAIN), 4, 0, 1)


def test_smoothed_targets_give_every_class_its_share():
    config = dataclasses.replace(PLAIN, label_smoothing=0.1)
    _, targets = batches(grey_images(), config)[0]
    np.testing.assert_allclose(np.sort(targets, axis=1)[:, :-1], 0.1 / 12, rtol=1e-5)
    np.testing.assert_allclose(targets.max(axis=1), 0.9 + 0.1 / 12, rtol=1e-5)


def test_mixed_images_and_targets_equal_those_mixed_by_hand(random):
    images = random.random((3, 4, 4, 3)).astype("float32")
    targets = np.eye(3, dtype="float32")
    box = np.array([1, 2, 2, 2], "float32")
    mixed, shares = map(np.asarray, operations.mix(images, targets, 0.75, box))
    expected = 0.75 * images + 0.25 * images[::-1]
    expected[:, 1:3, 2:4] = images[::-1][:, 1:3, 2:4]
    np.testing.assert_allclose(mixed, expected, rtol=1e-6)
    own = 0.75 * (1 - 4 / 16)
    np.testing.assert_allclose(shares[0], [own, 0, 1 - own], rtol=1e-6)
    np.testing.assert_allclose(shares[1], [0, 1, 0], rtol=1e-6)  # it is its own partner


def test_the_box_of_cutmix_has_the_share_that_is_not_kept_and_is_cut_at_the_border():
    cases = [((0.5, 0.5), 0.75, [4, 4, 8, 8]), ((0.0, 0.99), 0.75, [0, 11, 4, 5])]
    for centre, kept, expected in cases:
        box = sampling.cut_box(tf.constant(centre), 16, tf.constant(kept))
        np.testing.assert_array_equal(box, expected)
    np.testing.assert_array_equal(sampling.cut_box(tf.constant((0.3, 0.3)), 16, 1.0)[2:], 0)


def test_erased_boxes_follow_the_distribution_of_random_erasing(random):
    uniforms = random.random((20_000, sampling.ERASE_NUMBERS)).astype("float32")
    box, active = map(np.asarray, sampling.erased_box(uniforms, 100, 0.25))
    assert active.mean() == pytest.approx(0.25, abs=0.01)
    top, left, height, width = box.T
    share, ratio = height * width / 1e4, width / height
    assert 0.018 < share.min() < 0.022 and 0.3 < share.max() < 0.345  # sides are whole pixels
    assert 0.28 < ratio.min() and ratio.max() < 3.6
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert ((top >= 0) & (left >= 0) & (top + height <= 100) & (left + width <= 100)).all()


def test_erased_boxes_are_filled_with_normal_noise():
    config = dataclasses.replace(PLAIN, erasing=1.0)
    views = np.concatenate([x for x, _ in batches(grey_images(size=8), config, end=30)])
    own = np.median(views, axis=(1, 2), keepdims=True)
    noise = views[np.abs(views - own) > 1e-4]
    assert 0.05 < noise.size / views.size < 0.3
    assert (noise.mean(), noise.std()) == pytest.approx((0, 1), abs=0.15)


def test_views_are_normalised_as_the_preprocessing_says():
    preprocessing = PreprocessingConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    data = labelled_views(grey_images(), AugmentedViews(8, PLAIN, preprocessing), 4, 0, 3)
    for views, targets in data:
        grey = targets.numpy().argmax(axis=1) * 20 / 255
        pixels = operations.denormalize(views, preprocessing.mean, preprocessing.std)
        expected = np.broadcast_to(grey[:, None, None, None], pixels.shape)
        np.testing.assert_allclose(pixels, expected, atol=1e-6)
