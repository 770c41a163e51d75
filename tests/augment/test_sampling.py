import numpy as np
import pytest
import reference

from sit_keras.augment import operations, sampling
from sit_keras.config.settings import ViewConfig


def uniforms(random, *shape):
    return random.random(shape).astype("float32")


def numbers(random, count, width):
    return uniforms(random, count, width)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (96, 96), (50, 333), (333, 50)])
def test_crops_lie_inside_the_image_in_whole_pixels(random, height, width):
    boxes = sampling.crop_boxes(
        numbers(random, 5000, sampling.CROP_NUMBERS), height, width, ViewConfig()
    ).numpy()
    top, left, box_height, box_width = boxes.T
    assert (boxes == boxes.round()).all()
    assert (top >= 0).all() and (top + box_height <= height).all()
    assert (left >= 0).all() and (left + box_width <= width).all()
    assert (box_height >= 1).all() and (box_width >= 1).all()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (96, 96), (50, 333), (333, 50)])
def test_crops_equal_those_of_a_slow_loop(random, height, width):
    config = ViewConfig(crop_area=(0.1, 0.9))
    draw = numbers(random, 300, sampling.CROP_NUMBERS)
    expected = [
        reference.crop_box(row, height, width, config.crop_area, config.crop_ratio)
        for row in draw.astype("float64")
    ]
    boxes = sampling.crop_boxes(draw, height, width, config).numpy()
    # A side that rounds the other way in float32 is the only difference allowed, and a rare one.
    differ = np.abs(boxes - expected).max(axis=1)
    assert (differ > 0).mean() < 0.01 and differ.max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(10, 100, [0, 43, 10, 13]), (100, 10, [43, 0, 13, 10]), (90, 100, [0, 0, 90, 100])],
)
def test_the_fallback_is_the_centre(height, width, expected):
    # Every try is the whole area at the tallest ratio, too tall for each image.
    u = np.full((1, sampling.CROP_NUMBERS), 0.99999, "float32")
    u[:, 10:20] = 0.0 if height <= width else 0.99999
    box = sampling.crop_boxes(u, height, width, ViewConfig())
    np.testing.assert_array_equal(box, [expected])


def test_quarter_turns_are_uniform(random):
    turns = sampling.quarter_turns(uniforms(random, 20000)).numpy()
    np.testing.assert_allclose(np.bincount(turns) / 20000, 0.25, atol=0.02)
    extremes = np.float32([0, np.nextafter(np.float32(1), np.float32(0))])
    assert sampling.quarter_turns(extremes).numpy().tolist() == [0, 3]


def test_jitter_factors_and_orders_are_uniform(random):
    config = ViewConfig(brightness=0.4, contrast=0.2, saturation=0.0)
    factors, order = sampling.jitter(numbers(random, 6000, sampling.JITTER_NUMBERS), config)
    np.testing.assert_allclose(np.min(factors, 0), [0.6, 0.8, 1.0], atol=0.01)
    np.testing.assert_allclose(np.max(factors, 0), [1.4, 1.2, 1.0], atol=0.01)
    orders, counts = np.unique(order, axis=0, return_counts=True)
    assert len(orders) == 6
    assert (np.sort(orders, axis=1) == [0, 1, 2]).all()
    np.testing.assert_allclose(counts / 6000, 1 / 6, atol=0.02)


def test_blur_kernels_and_deviations_have_the_papers_distribution(random):
    radius, sigma = sampling.blur(numbers(random, 13000, sampling.BLUR_NUMBERS))
    expected = [0, 1] + [2] * 6  # of 13; a kernel of 3 is half as likely as the others
    np.testing.assert_allclose(
        np.bincount(np.asarray(radius).astype(int)) / 1000, expected, atol=0.15
    )
    assert 0.1 <= np.min(sigma) < 0.11 and 5.09 < np.max(sigma) < 5.1


def covered(blocks, active, size):
    return operations.block_mask(blocks, active, size, size).numpy().mean(axis=(1, 2, 3))


def test_the_grey_block_covers_what_the_authors_does(random):
    blocks = sampling.any_block(numbers(random, 1500, sampling.BLOCK_NUMBERS), 224)
    share = covered(blocks[:, None], np.ones((1500, 1), bool), 224)
    assert share.mean() == pytest.approx(0.13, abs=0.015)  # as simulated from the authors' code
    assert np.median(share) == pytest.approx(0.09, abs=0.015)


def test_dropped_blocks_cover_what_the_authors_do(random):
    blocks, active = sampling.small_blocks(numbers(random, 1000, sampling.BLOCKS_NUMBERS), 224, 0.3)
    share = covered(blocks, active, 224)
    assert active.numpy().sum(1).mean() == pytest.approx(8, abs=1)
    assert share.mean() == pytest.approx(0.14, abs=0.015)
    assert 0.25 < share.max() < 0.35


@pytest.mark.parametrize(
    ("size", "align"),
    [(8, None), (15, None), (32, None), (224, None), (8, 1), (8, 8), (28, 4), (32, 8), (21, 3),
     (224, 16)],
)  # fmt: skip
def test_small_blocks_against_the_loop(random, size, align):
    draw = numbers(random, 50, sampling.BLOCKS_NUMBERS)
    blocks, active = sampling.small_blocks(draw, size, 0.3, align)
    mask = operations.block_mask(blocks, active, size, size).numpy()[..., 0]
    assert not active[:, -1].numpy().any()  # 64 blocks were enough
    for row, result in zip(draw, mask, strict=True):
        expected = np.zeros((size, size), bool)
        for top, left, height, width in reference.small_blocks(row, size, 0.3, align):
            expected[top : top + height, left : left + width] = True
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("size", "align"), [(28, 4), (32, 8), (21, 3)])
def test_aligned_blocks_begin_and_end_between_patches(random, size, align):
    blocks, _ = sampling.small_blocks(
        numbers(random, 100, sampling.BLOCKS_NUMBERS), size, 0.3, align
    )
    assert (blocks.numpy() % align == 0).all() and (blocks.numpy()[..., 2:] >= align).all()
    assert len(np.unique(blocks.numpy()[..., 0])) == size // align  # every row of patches


@pytest.mark.parametrize("count", [1, 2, 8, 11, 24])
def test_donors_are_other_images_of_the_group_of_eight_in_the_same_view(random, count):
    drawn = np.stack([sampling.donors(uniforms(random, count, 2), 2) for _ in range(200)])
    assert drawn.shape == (200, 2 * count)
    image, view = drawn // 2, drawn % 2
    own = np.repeat(np.arange(count), 2)
    np.testing.assert_array_equal(view, np.tile([0, 1], (200, count)))
    for place in range(2 * count):
        group = [i for i in range(count) if i // 8 == own[place] // 8]
        others = [i for i in group if i != own[place]] or group
        assert sorted(set(image[:, place])) == others  # each of them, and no other
