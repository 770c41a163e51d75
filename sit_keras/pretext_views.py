"""Two views of each image and their corruption, as pure functions of the numbers drawn.

Whoever draws the numbers, TensorFlow's or JAX's generators, gets the same views from the same ones.

Shapes: B batch, V = 2 views, M = B * V views in a row, S side, H W C image.
"""

import itertools

from keras import ops

from sit_keras import augment, draws
from sit_keras.config import CorruptionConfig, ViewConfig

NUM_VIEWS = 2

# How many uniform numbers a crop, the look of a view, and its corruption take.
CROP_NUMBERS = 1 + draws.CROP_NUMBERS
LOOK_NUMBERS = 1 + draws.JITTER_NUMBERS
_CORRUPTION = {
    "grey": draws.BLOCK_NUMBERS,
    "blur": draws.BLOCK_NUMBERS,
    "blur_law": draws.BLUR_NUMBERS,
    "drop": draws.BLOCKS_NUMBERS,
    "replace": draws.BLOCKS_NUMBERS,
    "donor": 1,
    "colour": draws.BLOCK_NUMBERS,
    "colour_law": draws.JITTER_NUMBERS,
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
    boxes = draws.crop_boxes(uniforms[..., 1:], height, width, views)
    flip = uniforms[..., 0] < views.flip_probability
    return augment.resized_crop(images, boxes, flip, size)


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
    rotation = draws.quarter_turns(uniforms[:, 0])
    factors, order = draws.jitter(uniforms[:, 1:], views)
    x = augment.normalize(augment.color_jitter(crops, factors, order))
    return augment.rotate(x, rotation), rotation


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
        x = augment.grey_block(x, draws.any_block(drawn["grey"], size))
    if config.blur:
        block = draws.any_block(drawn["blur"], size)
        x = augment.blur_block(x, block, *draws.blur(drawn["blur_law"]))
    if config.colour:
        block = draws.any_block(drawn["colour"], size)
        x = augment.distort_block(x, block, *draws.jitter(drawn["colour_law"], _DISTORTION))
    if config.drop > 0:
        x = augment.fill_blocks(x, *draws.small_blocks(drawn["drop"], size, config.drop), noise)
    if config.replace > 0:
        donors = draws.donors(ops.reshape(drawn["donor"], (-1, NUM_VIEWS)), NUM_VIEWS)
        others = ops.take(x, donors, axis=0)
        blocks = draws.small_blocks(drawn["replace"], size, config.replace)
        x = augment.fill_blocks(x, *blocks, others)
    return x
