"""Image operations with explicit parameters: (images, parameters) -> images. Nothing random here.

Every operation takes one set of parameters per image, works on the whole batch at once and
compiles under XLA. `sampling.py` holds the distributions of the parameters.

Shapes: B images, V views, N = B * V views in a row, S output side, H W C image, K blocks.
A box or block is (top, left, height, width) in pixels; it ends at the border where it reaches it.
"""

import math

import keras
from keras import ops

from sit_keras.config.preprocessing import IMAGENET_MEAN, IMAGENET_STD

# ITU-R 601 luma, which Pillow's "L" mode uses.
LUMA = (0.299, 0.587, 0.114)
# By which PAL scales blue and red less luma to U and V, whose plane is that of NTSC's I and Q.
BLUE_SCALE, RED_SCALE = 0.492111, 0.877283

BRIGHTNESS, CONTRAST, SATURATION = 0, 1, 2


def normalize(images, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """Maps images from [0, 1] to about zero mean and unit deviation a channel.

    Args:
        images: (..., C) float in [0, 1].
        mean, std: one number a channel.

    Returns:
        (..., C) float32.

    Raises:
        ValueError: for images of whole numbers, which do not lie in [0, 1].
    """
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(images.dtype)):
        raise ValueError(
            f"Expected images as floats in [0, 1], received {images.dtype}: divide them by 255 "
            "first, or give them to `SiTPretrainer` or `SiTImageClassifier`, which do so."
        )
    return (images - ops.convert_to_tensor(mean)) / ops.convert_to_tensor(std)


def denormalize(images, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """Inverts `normalize`."""
    return images * ops.convert_to_tensor(std) + ops.convert_to_tensor(mean)


def unit_pixels(images, value_range=(0.0, 255.0)):
    """Maps images of any type from `value_range` to float32 in [0, 1]."""
    low, high = value_range
    return (ops.cast(images, "float32") - low) * (1.0 / (high - low))


# --- Clean views ----------------------------------------------------------------------------------


def color_jitter(images, factors, order):
    """Changes brightness, contrast and saturation by factors, in an order of each image's own.

    Each is a blend `factor * image + (1 - factor) * target` with black, with the mean grey of the
    image or with its greyscale version, clipped after each, as in Pillow's ImageEnhance. Other than
    three channels have no saturation, and their grey is the mean of all.

    Args:
        images: (N, H, W, C) float32 in [0, 1].
        factors: (N, 3) float32, indexed by BRIGHTNESS, CONTRAST, SATURATION; 1 changes nothing.
        order: (N, 3) int, a permutation of those three.

    Returns:
        (N, H, W, C) float32 in [0, 1].
    """
    has_colours, weights = images.shape[-1] == len(LUMA), grey_weights(images.shape[-1])
    for step in range(factors.shape[-1]):
        kind = order[:, step]  # (N,)
        factor = ops.take_along_axis(factors, kind[:, None], axis=1)[:, :, None, None]
        kind = kind[:, None, None, None]
        grey = _weighted_channels(images, weights)
        target = ops.where(kind == SATURATION, grey if has_colours else images, 0.0)
        target = ops.where(kind == CONTRAST, ops.mean(grey, axis=(1, 2), keepdims=True), target)
        images = ops.clip(factor * images + (1.0 - factor) * target, 0.0, 1.0)
    return images


def turn_hue(images, turns):
    """Turns the colours of each image around grey, in the plane of U and V. The luma stays.

    This is linear in the channels, as the hue of YIQ is, so images are not torn where the hue of
    HSV leaps. No turn changes no bit.

    Args:
        images: (N, H, W, 3) float32 in [0, 1].
        turns: (N,) float32. Shares of the full circle, from red towards yellow.

    Returns:
        (N, H, W, 3) float32 in [0, 1].
    """
    angle = (2.0 * math.pi * turns)[:, None, None, None]
    less_cos, sin = ops.cos(angle) - 1.0, ops.sin(angle)
    luma = _weighted_channels(images, LUMA)  # (N, H, W, 1)
    u = BLUE_SCALE * (images[..., 2:] - luma)
    v = RED_SCALE * (images[..., :1] - luma)
    red = (sin * u + less_cos * v) / RED_SCALE  # what is added to each channel
    blue = (less_cos * u - sin * v) / BLUE_SCALE
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    return ops.clip(images + ops.concatenate([red, green, blue], axis=-1), 0.0, 1.0)


def greyscale(images):
    """Gives each pixel of images (N, H, W, 3) its luma in all channels."""
    return ops.concatenate([_weighted_channels(images, LUMA)] * 3, axis=-1)


def grey_weights(channels: int) -> tuple[float, ...]:
    """Returns the weights of the channels in the grey of a pixel: luma, or equal ones."""
    return LUMA if channels == len(LUMA) else (1.0 / channels,) * channels


def solarize(images):
    """Inverts the values of images in [0, 1] that are at least a half."""
    return ops.minimum(images, 1.0 - images)


def _weighted_channels(images, weights):
    """Sums the channels (N, H, W, C) -> (N, H, W, 1), always in the same order.

    A compiler adds up the terms of a reduction in an order that depends on the shape, and the
    sums then differ in their last bit between a whole batch and its parts.
    """
    total = images[..., :1] * weights[0]
    for channel, weight in enumerate(weights[1:], 1):
        total = total + images[..., channel : channel + 1] * weight
    return total


def rotate(images, quarter_turns):
    """Turns each square image clockwise by its number of quarter turns.

    Args:
        images: (N, S, S, C).
        quarter_turns: (N,) int in 0..3.

    Returns:
        (N, S, S, C).
    """
    turns = quarter_turns[:, None, None, None]
    x = ops.where(turns % 2 == 1, ops.transpose(images, (0, 2, 1, 3)), images)
    x = ops.where((turns == 1) | (turns == 2), ops.flip(x, axis=2), x)
    return ops.where(turns >= 2, ops.flip(x, axis=1), x)


# --- Corruptions ----------------------------------------------------------------------------------


def block_mask(blocks, active, height: int, width: int):
    """Marks the pixels that lie in any active block.

    Args:
        blocks: (N, K, 4) float32.
        active: (N, K) bool.
        height, width: int, of the image in pixels.

    Returns:
        (N, height, width, 1) bool.
    """
    top, left, block_height, block_width = ops.unstack(blocks, 4, axis=-1)  # (N, K) each
    rows = _inside(height, top, block_height) & active[..., None]  # (N, K, height)
    columns = _inside(width, left, block_width)  # (N, K, width)
    covered = ops.einsum("nkh,nkw->nhw", ops.cast(rows, "float32"), ops.cast(columns, "float32"))
    return covered[..., None] > 0.5


def _inside(length: int, low, extent):
    """Returns (..., length) bool: which positions lie in [low, low + extent)."""
    position = ops.arange(length, dtype="float32")
    return (position >= low[..., None]) & (position < (low + extent)[..., None])


def _one_block_mask(images, block):
    """The mask (N, H, W, 1) of one block (N, 4) per image."""
    always = ops.ones((ops.shape(block)[0], 1), dtype="bool")
    return block_mask(block[:, None, :], always, images.shape[1], images.shape[2])


def grey_block(images, block):
    """Gives each pixel of one block (N, 4) of images (N, H, W, C) the mean of its channels."""
    grey = _weighted_channels(images, (1.0 / images.shape[-1],) * images.shape[-1])
    return ops.where(_one_block_mask(images, block), grey, images)


def blur_block(images, block, radius, sigma):
    """Blurs one block by a Gaussian, as if it were an image of its own with reflected borders.

    Args:
        images: (N, H, W, C).
        block: (N, 4) float32.
        radius: (N,) float32, (kernel size - 1) / 2 in whole pixels. It is cut to what the block can
            reflect, its shorter side less one, so that it works at every image size.
        sigma: (N,) float32, in pixels.

    Returns:
        (N, H, W, C).
    """
    height, width = images.shape[1], images.shape[2]
    top, left, block_height, block_width = ops.unstack(block, 4, axis=-1)  # (N,) each
    bottom = ops.minimum(top + block_height, float(height))
    right = ops.minimum(left + block_width, float(width))
    radius = ops.minimum(radius, ops.minimum(bottom - top, right - left) - 1.0)
    rows = _reflecting_blur(height, top, bottom, radius, sigma)  # (N, H, H)
    columns = _reflecting_blur(width, left, right, radius, sigma)  # (N, W, W)
    channels = images.shape[3]
    x = ops.matmul(rows, ops.reshape(images, (-1, height, width * channels)))
    x = ops.reshape(x, (-1, height, width, channels))
    x = ops.einsum("npw,nowc->nopc", columns, x)
    return ops.where(_one_block_mask(images, block), x, images)


def _reflecting_blur(length: int, low, high, radius, sigma):
    """Returns the (N, length, length) banded matrix that blurs [low, high), borders reflected.

    A source pixel counts once directly and once for each border that mirrors it; with a radius
    below the block's side it is mirrored at most once at each.
    """
    low, high, radius, sigma = (x[:, None, None] for x in (low, high, radius, sigma))
    out = ops.arange(length, dtype="float32")[None, :, None]
    source = ops.arange(length, dtype="float32")[None, None, :]

    def gaussian(position):
        offset = position - out
        return ops.where(ops.abs(offset) <= radius, ops.exp(-0.5 * (offset / sigma) ** 2), 0.0)

    last = high - 1.0
    weights = gaussian(source)
    weights = weights + ops.where(source != low, gaussian(2.0 * low - source), 0.0)
    weights = weights + ops.where(source != last, gaussian(2.0 * last - source), 0.0)
    weights = ops.where((source >= low) & (source < high), weights, 0.0)
    total = ops.sum(weights, axis=-1, keepdims=True)  # 0 in rows outside of the block
    return weights / ops.where(total > 0, total, 1.0)


def fill_blocks(images, blocks, active, content):
    """Replaces the active blocks of each image by what `content` has in the same place.

    Args:
        images, content: (N, H, W, C).
        blocks: (N, K, 4) float32.
        active: (N, K) bool.

    Returns:
        (N, H, W, C).
    """
    mask = block_mask(blocks, active, images.shape[1], images.shape[2])
    return ops.where(mask, content, images)


def distort_block(images, block, factors, order, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """Applies `color_jitter` to one block (N, 4) of images (N, H, W, C) that are normalised.

    Args:
        images, block: as above.
        factors, order: as for `color_jitter`.
        mean, std: with which the images were normalised.
    """
    pixels = ops.clip(denormalize(images, mean, std), 0.0, 1.0)
    distorted = normalize(color_jitter(pixels, factors, order), mean, std)
    return ops.where(_one_block_mask(images, block), distorted, images)


# --- Mixed images ---------------------------------------------------------------------------------


def mix(images, targets, weight, box):
    """Mixes each image and its target with those of its partner from the other end of the batch.

    Args:
        images: (N, H, W, C).
        targets: (N, K) float32, shares of the classes.
        weight: scalar float32. What an image keeps of its own everywhere (mixup).
        box: (4,) float32, inside the image. Where the partner takes its place (CutMix).

    Returns:
        The mixed images and targets.

    Reference:
        Zhang et al. 2018, mixup; Yun et al. 2019, CutMix.
    """
    height, width = images.shape[1], images.shape[2]
    mask = block_mask(box[None, None], ops.ones((1, 1), dtype="bool"), height, width)
    partners = ops.flip(images, axis=0)
    mixed = ops.where(mask, partners, weight * images + (1.0 - weight) * partners)
    own = weight * (1.0 - ops.mean(ops.cast(mask, "float32")))
    return mixed, own * targets + (1.0 - own) * ops.flip(targets, axis=0)
