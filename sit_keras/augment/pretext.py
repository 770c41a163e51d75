"""Two views of each image and their corruption, as pure functions of the numbers drawn.

Whoever draws the numbers, TensorFlow's or JAX's generators, gets the same views from the same ones.

Shapes: B batch, V = 2 views, M = B * V views in a row, S side, H W C image.
"""

import itertools

from keras import ops

from sit_keras.augment import operations, sampling
from sit_keras.config.settings import CorruptionConfig, ViewConfig

NUM_VIEWS = 2

# How many uniform numbers a crop, the look of a view, and its corruption take.
CROP_NUMBERS = 1 + sampling.CROP_NUMBERS
LOOK_NUMBERS = 1 + sampling.JITTER_NUMBERS
_CORRUPTION = {
    "grey": sampling.BLOCK_NUMBERS,
    "blur": sampling.BLOCK_NUMBERS,
    "blur_law": sampling.BLUR_NUMBERS,
    "drop": sampling.BLOCKS_NUMBERS,
    "replace": sampling.BLOCKS_NUMBERS,
    "donor": 1,
    "colour": sampling.BLOCK_NUMBERS,
    "colour_law": sampling.JITTER_NUMBERS,
}
CORRUPTION_NUMBERS = sum(_CORRUPTION.values())

# The deck shows local colour distortion without a strength; this is SimCLR's.
_DISTORTION = ViewConfig(brightness=0.8, contrast=0.8, saturation=0.8)


def crop(images, uniforms, size: int, views: ViewConfig):
    """Cuts random boxes out of images, mirrors some, and resizes them.

    Args:
        images: (B, H, W, 3) float32 in [0, 1].
        uniforms: (B, V, CROP_NUMBERS) float32 in [0, 1).
        size: int. Side S in pixels.
        views: ViewConfig.

    Returns:
        (B, V, S, S, 3) float32 in [0, 1].
    """
    height, width = ops.shape(images)[1], ops.shape(images)[2]
    boxes = sampling.crop_boxes(uniforms[..., 1:], height, width, views)
    flip = uniforms[..., 0] < views.flip_probability
    return operations.resized_crop(images, boxes, flip, size)


def look(crops, uniforms, views: ViewConfig):
    """Jitters the colours of crops, normalises and turns them; the turn comes last.

    Args:
        crops: (M, S, S, 3) float32 in [0, 1].
        uniforms: (M, LOOK_NUMBERS) float32 in [0, 1).
        views: ViewConfig.

    Returns:
        The clean views (M, S, S, 3) float32 normalised, and their quarter turns clockwise, (M,)
        int32.
    """
    rotation = sampling.quarter_turns(uniforms[:, 0])
    factors, order = sampling.jitter(uniforms[:, 1:], views)
    x = operations.normalize(operations.color_jitter(crops, factors, order))
    return operations.rotate(x, rotation), rotation


def corrupt(clean, uniforms, noise, config: CorruptionConfig):
    """Corrupts views in the paper's order: grey, blur, (colour,) drop, replace.

    Args:
        clean: (M, S, S, 3) float32, normalised; the views of an image side by side.
        uniforms: (M, CORRUPTION_NUMBERS) float32 in [0, 1).
        noise: (M, S, S, 3) float32, normal, of which dropped blocks are filled.
        config: CorruptionConfig.

    Returns:
        (M, S, S, 3) float32, normalised.
    """
    ends = list(itertools.accumulate(_CORRUPTION.values()))
    parts = zip(_CORRUPTION, [0, *ends], ends, strict=False)
    drawn = {name: uniforms[:, start:end] for name, start, end in parts}
    size, x = clean.shape[1], clean
    if config.grey:
        x = operations.grey_block(x, sampling.any_block(drawn["grey"], size))
    if config.blur:
        block = sampling.any_block(drawn["blur"], size)
        x = operations.blur_block(x, block, *sampling.blur(drawn["blur_law"]))
    if config.colour:
        block = sampling.any_block(drawn["colour"], size)
        x = operations.distort_block(x, block, *sampling.jitter(drawn["colour_law"], _DISTORTION))
    if config.drop > 0:
        x = operations.fill_blocks(
            x, *sampling.small_blocks(drawn["drop"], size, config.drop), noise
        )
    if config.replace > 0:
        donors = sampling.donors(ops.reshape(drawn["donor"], (-1, NUM_VIEWS)), NUM_VIEWS)
        others = ops.take(x, donors, axis=0)
        blocks = sampling.small_blocks(drawn["replace"], size, config.replace)
        x = operations.fill_blocks(x, *blocks, others)
    return x
