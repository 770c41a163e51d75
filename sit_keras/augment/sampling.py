"""The distributions of the random parameters: uniform numbers in [0, 1) -> what `operations` take.

Pure functions of the uniform numbers of `random.py`. The ranges are those of the paper and its
code.
"""

import itertools

from keras import ops

from sit_keras.config.settings import ViewConfig

CROP_TRIES = 10
CROP_NUMBERS = 2 * CROP_TRIES + 2
JITTER_NUMBERS = 4
BLOCK_NUMBERS = 4
MAX_BLOCKS = 64  # the paper's distribution needs about 20; 64 are never exhausted in practice
BLOCKS_NUMBERS = 1 + MAX_BLOCKS * BLOCK_NUMBERS
BLUR_NUMBERS = 2
ERASE_NUMBERS = 2 * CROP_TRIES + 3
DONOR_GROUP = 8

_ORDERS = tuple(itertools.permutations(range(3)))


def _integer(uniform, low, high):
    """A whole number (as float32) uniform in [low, high), which must not be empty."""
    return low + ops.minimum(ops.floor(uniform * (high - low)), high - low - 1)


def crop_boxes(uniforms, height, width, config: ViewConfig):
    """Random-resized-crop boxes: ten tries at a random area and ratio, else a centre crop.

    Args:
        uniforms: (..., CROP_NUMBERS) float32.
        height, width: scalar float32 tensors or numbers, of the image in pixels.
        config: ViewConfig.

    Returns:
        (..., 4) float32: top, left, height, width in whole pixels.
    """
    height, width = ops.cast(height, "float32"), ops.cast(width, "float32")
    low_area, high_area = config.crop_area
    low_ratio, high_ratio = config.crop_ratio
    area = height * width * (low_area + (high_area - low_area) * uniforms[..., :CROP_TRIES])
    log_low, log_high = ops.log(low_ratio), ops.log(high_ratio)
    ratio = ops.exp(log_low + (log_high - log_low) * uniforms[..., CROP_TRIES : 2 * CROP_TRIES])
    widths = ops.maximum(ops.round(ops.sqrt(area * ratio)), 1.0)  # (..., tries)
    heights = ops.maximum(ops.round(ops.sqrt(area / ratio)), 1.0)
    fits = (widths <= width) & (heights <= height)
    first = ops.argmax(ops.cast(fits, "int32"), axis=-1)[..., None]
    found = ops.any(fits, axis=-1)

    # The largest centre crop whose ratio is allowed.
    whole_ratio = width / height
    fallback_width = ops.where(
        whole_ratio > high_ratio, ops.maximum(ops.round(height * high_ratio), 1.0), width
    )
    fallback_height = ops.where(
        whole_ratio < low_ratio, ops.maximum(ops.round(width / low_ratio), 1.0), height
    )
    crop_height = ops.take_along_axis(heights, first, axis=-1)[..., 0]
    crop_height = ops.where(found, crop_height, fallback_height)
    crop_width = ops.take_along_axis(widths, first, axis=-1)[..., 0]
    crop_width = ops.where(found, crop_width, fallback_width)
    top = _integer(uniforms[..., -2], 0.0, height - crop_height + 1)
    left = _integer(uniforms[..., -1], 0.0, width - crop_width + 1)
    top = ops.where(found, top, ops.floor((height - crop_height) / 2))
    left = ops.where(found, left, ops.floor((width - crop_width) / 2))
    return ops.stack([top, left, crop_height, crop_width], axis=-1)


def quarter_turns(uniforms):
    """Rotation labels, uniform over 0..3: (...) float32 -> (...) int32."""
    return ops.cast(_integer(uniforms, 0.0, 4.0), "int32")


def jitter(uniforms, config: ViewConfig):
    """Colour jitter: factors uniform in [1 - x, 1 + x] and one of the six orders.

    Args:
        uniforms: (..., JITTER_NUMBERS) float32.
        config: ViewConfig.

    Returns:
        factors (..., 3) float32 and order (..., 3) int32.
    """
    strength = ops.convert_to_tensor(
        [config.brightness, config.contrast, config.saturation], "float32"
    )
    factors = 1.0 + strength * (2.0 * uniforms[..., :3] - 1.0)
    choice = ops.cast(_integer(uniforms[..., 3], 0.0, float(len(_ORDERS))), "int32")
    return factors, ops.take(ops.convert_to_tensor(_ORDERS, "int32"), choice, axis=0)


def hue_turns(uniforms, config: ViewConfig):
    """Shares of the colour circle, uniform in [-hue, hue): (...) float32 -> (...) float32."""
    return config.hue * (2.0 * uniforms - 1.0)


def solarized(uniforms, config: ViewConfig):
    """Which views are solarised: some of the second ones, and none of the first.

    Args:
        uniforms: (M,) float32, of the two views of each image side by side.
        config: ViewConfig.

    Returns:
        (M,) bool.
    """
    chances = ops.convert_to_tensor([0.0, config.solarize_probability], "float32")
    return ops.reshape(ops.reshape(uniforms, (-1, 2)) < chances, (-1,))


def any_block(uniforms, size: int):
    """The block of the grey and blur corruptions: sides uniform in [5 %, 100 %) of the image.

    Args:
        uniforms: (..., BLOCK_NUMBERS) float32.
        size: int. Side of the square image in pixels.

    Returns:
        (..., 4) float32; it may reach beyond the border.
    """
    return _block(uniforms, size, max(1, int(0.05 * size)), size)


def _block(uniforms, size: int, low: int, high: int):
    margin = float(max(1, int(0.05 * size)))
    corner = _integer(uniforms[..., :2], 0.0, size - margin)
    extent = _integer(uniforms[..., 2:4], float(low), float(max(high, low + 1)))
    return ops.concatenate([corner, extent], axis=-1)


def small_blocks(uniforms, size: int, max_share: float, align: int | None = None):
    """The blocks of the drop and replace corruptions: sides of 5 % to 25 % of the image.

    Blocks are added until their summed area, overlaps counted twice, reaches a share of the image
    that is uniform in [0, max_share).

    Args:
        uniforms: (..., BLOCKS_NUMBERS) float32.
        size: int. Side of the square image in pixels.
        max_share: float.
        align: int or None. Corners are cut down to multiples of this many pixels, and sides rounded
            to the nearest one above 0.

    Returns:
        blocks (..., MAX_BLOCKS, 4) float32 and active (..., MAX_BLOCKS) bool.
    """
    wanted = uniforms[..., 0] * max_share * size * size
    shape = (*ops.shape(uniforms)[:-1], MAX_BLOCKS, BLOCK_NUMBERS)
    low = max(1, int(0.05 * size))
    blocks = _block(ops.reshape(uniforms[..., 1:], shape), size, low, int(0.25 * size))
    if align is not None:
        blocks = _aligned(blocks, align)
    top, left, height, width = ops.unstack(blocks, 4, axis=-1)
    area = ops.minimum(height, size - top) * ops.minimum(width, size - left)
    before = ops.cumsum(area, axis=-1) - area
    return blocks, before < wanted[..., None]


def _aligned(blocks, align: int):
    """The blocks on a grid of `align` pixels; compilers divide whole numbers alike."""
    corner, extent = ops.split(ops.cast(blocks, "int32"), 2, axis=-1)
    extent = ops.maximum((extent + align // 2) // align, 1)
    return ops.cast(align * ops.concatenate([corner // align, extent], axis=-1), "float32")


def blur(uniforms):
    """The blur corruption: kernel sides 3, 5 ... 15 and a deviation uniform in [0.1, 5.1).

    Args:
        uniforms: (..., BLUR_NUMBERS) float32.

    Returns:
        radius and sigma, (...) float32 each, in pixels.
    """
    # The authors' 2 * (randint(3, 16) // 2) + 1, so 3 is half as likely as the others.
    radius = ops.floor(_integer(uniforms[..., 0], 3.0, 16.0) / 2.0)
    return radius, 0.1 + 5.0 * uniforms[..., 1]


def donors(uniforms, views: int):
    """For each view, the same view of another image, chosen uniformly among its group of eight.

    Groups are the images of positions 0 to 7, 8 to 15 and so on, so that a batch that is shared
    out among devices in multiples of eight gives every image the donor that it has in the whole
    batch. The last group may be smaller; an image alone in it is its own donor.

    Args:
        uniforms: (B, V) float32.
        views: int. V.

    Returns:
        (B * V,) int32, indices into the flattened (B * V) views.
    """
    count = ops.shape(uniforms)[0]
    image = ops.arange(count, dtype="int32")[:, None]  # (B, 1)
    first = image // DONOR_GROUP * DONOR_GROUP
    size = ops.minimum(DONOR_GROUP, count - first)
    others = ops.cast(ops.maximum(size - 1, 1), "float32")
    offset = ops.minimum(1 + ops.cast(_integer(uniforms, 0.0, others), "int32"), size - 1)
    donor = first + (image - first + offset) % size
    return ops.reshape(donor * views + ops.arange(views, dtype="int32"), (-1,))


def erased_box(uniforms, size: int, probability: float):
    """Random erasing: one box of 2 % to a third of the area, of a ratio from 0.3 to its inverse.

    Args:
        uniforms: (..., ERASE_NUMBERS) float32.
        size: int. Side of the square image in pixels.
        probability: float. Chance that an image is erased at all.

    Returns:
        box (..., 4) float32 and whether it is used, (...) bool.

    Reference:
        Zhong et al. 2017, Random Erasing Data Augmentation, with timm's numbers.
    """
    boxes = ViewConfig(crop_area=(0.02, 1 / 3), crop_ratio=(0.3, 1 / 0.3))
    return crop_boxes(uniforms[..., 1:], size, size, boxes), uniforms[..., 0] < probability


def cut_box(uniforms, size: int, kept):
    """The box of CutMix, of 1 - `kept` of the area, around a uniform centre and cut at the border.

    Args:
        uniforms: (2,) float32.
        size: int. Side of the square image in pixels.
        kept: scalar float32.

    Returns:
        (4,) float32 in whole pixels.
    """
    half = ops.floor(size * ops.sqrt(1.0 - kept)) / 2.0
    centre = ops.floor(uniforms * size)
    low = ops.clip(ops.floor(centre - half), 0.0, float(size))
    high = ops.clip(ops.floor(centre + half), 0.0, float(size))
    return ops.concatenate([low, high - low], axis=-1)
