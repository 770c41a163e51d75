"""RandAugment on whole batches: each image its own operations, and no loop over images.

Each of the fifteen operations is one of four things: a table from old to new values, a blend with
grey, a sharpening, or a move of the plane. A round chooses one operation for each image and does
all four things, those not chosen with the parameter that changes nothing.

Shapes: N images, H W C image. Pixel values run from 0 to 255 within a round, as Pillow's do.
"""

import math

from keras import ops

from sit_keras.augment.operations import LUMA, grey_weights
from sit_keras.config.preprocessing import IMAGENET_MEAN

# timm's "increasing" set, in which a larger magnitude always means a stronger change.
OPERATIONS = (
    "auto_contrast", "equalize", "invert", "posterize", "solarize", "solarize_add", "contrast",
    "brightness", "color", "sharpness", "rotate", "shear_x", "shear_y", "translate_x",
    "translate_y",
)  # fmt: skip
MAX_MAGNITUDE = 10
ROUND_NUMBERS = 4
APPLY_PROBABILITY = 0.5
MAGNITUDE_DEVIATION = 0.5


def draw_round(uniforms, magnitude: float):
    """Samples an operation, whether it is done, and how strongly, as timm's `rand-m9-mstd0.5-inc1`.

    Args:
        uniforms: (N, ROUND_NUMBERS) float32 in [0, 1).
        magnitude: float in [0, 10]. Mean of the strength, whose deviation is 0.5.

    Returns:
        operation (N,) int32, an index into `OPERATIONS`, or -1 for none; level (N,) float32 in
        [-1, 1], whose sign gives the direction.
    """
    which, whether, strength, sign = ops.unstack(uniforms, ROUND_NUMBERS, axis=-1)
    operation = ops.minimum(ops.floor(which * len(OPERATIONS)), len(OPERATIONS) - 1.0)
    operation = ops.where(whether < APPLY_PROBABILITY, operation, -1.0)
    strength = ops.clip(strength, 1e-6, 1 - 1e-6)
    normal = math.sqrt(2) * ops.erfinv(2.0 * strength - 1.0)
    level = ops.clip(magnitude + MAGNITUDE_DEVIATION * normal, 0.0, MAX_MAGNITUDE) / MAX_MAGNITUDE
    return ops.cast(operation, "int32"), ops.where(sign < 0.5, -level, level)


def apply_round(images, operation, level, mean=IMAGENET_MEAN):
    """Does one operation to each image.

    Images of other than three channels have no colour to change, so `color` leaves them; their grey
    is the mean of the channels.

    Args:
        images: (N, H, W, C) float32 in [0, 1].
        operation, level: as of `draw_round`.
        mean: one number a channel. The colour of what comes in from beyond the border.

    Returns:
        (N, H, W, C) float32 in [0, 1].

    Reference:
        Cubuk et al. 2019, RandAugment; the strengths are timm's.
    """

    def chosen(name, value, otherwise):
        """`value` (N,) for the images whose operation this is."""
        return ops.where(operation == OPERATIONS.index(name), value, otherwise)

    x = ops.round(images * 255.0)
    x = _look_up(x, _tables(x, operation, level))
    enhancement = 1.0 + 0.9 * level
    if x.shape[-1] == len(LUMA):
        x = _blend(x, _grey(x), chosen("color", enhancement, 1.0))
    x = _blend(x, _smooth(x), chosen("sharpness", enhancement, 1.0))
    angle = chosen("rotate", level * (math.pi / 6), 0.0)
    shear_x, shear_y = chosen("shear_x", 0.3 * level, 0.0), chosen("shear_y", 0.3 * level, 0.0)
    shift_x = chosen("translate_x", 0.45 * level * images.shape[2], 0.0)
    shift_y = chosen("translate_y", 0.45 * level * images.shape[1], 0.0)
    return _move(x, angle, shear_x, shear_y, shift_x, shift_y, mean) / 255.0


def _grey(x):
    """The luma (N, H, W, 1) of colours, the mean of other channels."""
    weights = grey_weights(x.shape[-1])
    return ops.sum(x * ops.convert_to_tensor(weights), axis=-1, keepdims=True)


def _tables(x, operation, level):
    """Returns for each image and channel the new value of every old one, (N, C, 256)."""
    strength = ops.abs(level)[:, None, None]
    old = ops.broadcast_to(ops.arange(256, dtype="float32"), (ops.shape(x)[0], x.shape[-1], 256))
    low = ops.min(x, axis=(1, 2))[..., None]  # (N, C, 1)
    high = ops.max(x, axis=(1, 2))[..., None]
    step = 2.0 ** (4.0 + ops.floor(4.0 * strength))  # the values that fall together
    mean = ops.round(ops.mean(_grey(x), axis=(1, 2)))[..., None]  # (N, 1, 1)
    factor = (1.0 + 0.9 * level)[:, None, None]
    threshold = 256.0 - ops.floor(256.0 * strength)
    stretched = (old - low) * 255.0 / ops.maximum(high - low, 1.0)
    new = {
        "auto_contrast": ops.where(high > low, stretched, old),
        "equalize": _equalizing(x),
        "invert": 255.0 - old,
        "posterize": ops.floor(old / step) * step,
        "solarize": ops.where(old < threshold, old, 255.0 - old),
        "solarize_add": ops.where(old < 128.0, old + ops.floor(110.0 * strength), old),
        "contrast": factor * old + (1.0 - factor) * mean,
        "brightness": factor * old,
    }  # fmt: skip
    table = old
    for name, values in new.items():
        table = ops.where(operation[:, None, None] == OPERATIONS.index(name), values, table)
    return ops.clip(ops.floor(table), 0.0, 255.0)


def _equalizing(x):
    """Returns the tables (N, C, 256) that spread values evenly, as Pillow's `equalize` counts."""
    count, pixels, channels = ops.shape(x)[0], x.shape[1] * x.shape[2], x.shape[-1]
    values = ops.reshape(
        ops.transpose(ops.cast(x, "int32"), (0, 3, 1, 2)), (-1, pixels)
    )  # (N*C, HW)
    first = 256 * ops.arange(channels * count, dtype="int32")[:, None]
    histogram = ops.segment_sum(
        ops.ones_like(ops.reshape(values, (-1,)), dtype="float32"),
        ops.reshape(values + first, (-1,)),
        num_segments=256 * channels * count,
    )
    histogram = ops.reshape(histogram, (-1, channels, 256))
    last = ops.max(ops.where(histogram > 0, ops.arange(256), 0), axis=-1, keepdims=True)
    of_last = ops.take_along_axis(histogram, last, axis=-1)
    step = ops.floor((pixels - of_last) / 255.0)  # (N, C, 1)
    before = ops.cumsum(histogram, axis=-1) - histogram
    spread = ops.floor((ops.floor(step / 2.0) + before) / ops.maximum(step, 1.0))
    return ops.where(step > 0, spread, ops.arange(256, dtype="float32"))


def _look_up(x, tables):
    """Replaces the values of x (N, H, W, C) by those of the tables (N, C, 256)."""
    shape = ops.shape(x)
    values = ops.transpose(
        ops.reshape(ops.cast(x, "int32"), (shape[0], -1, x.shape[-1])), (0, 2, 1)
    )
    new = ops.take_along_axis(tables, values, axis=-1)  # (N, C, H*W)
    return ops.reshape(ops.transpose(new, (0, 2, 1)), shape)


def _blend(x, target, factor):
    """Pillow's enhancement: `factor * x + (1 - factor) * target`, clipped."""
    factor = factor[:, None, None, None]
    return ops.clip(factor * x + (1.0 - factor) * target, 0.0, 255.0)


def _smooth(x):
    """Pillow's SMOOTH filter, which leaves the outermost pixels as they are."""
    around = [
        x[:, top : x.shape[1] - 2 + top, left : x.shape[2] - 2 + left]
        for top in range(3)
        for left in range(3)
    ]
    inner = (sum(around) + 4.0 * around[4]) / 13.0  # the pixel itself counts five times
    return ops.concatenate(
        [x[:, :1], ops.concatenate([x[:, 1:-1, :1], inner, x[:, 1:-1, -1:]], 2), x[:, -1:]], 1
    )


def _move(x, angle, shear_x, shear_y, shift_x, shift_y, mean):
    """Rotates (counter-clockwise, radians), shears and shifts; what comes in is the mean colour.

    Each output pixel is read from `[[cos, -sin], [sin, cos]] @ (its place from the centre)` for a
    rotation, and from its own place for the others.
    """
    height, width = x.shape[1], x.shape[2]
    cos, sin = ops.cos(angle), ops.sin(angle)
    xx, xy, yx, yy = cos, shear_x - sin, shear_y + sin, cos
    # Shears and shifts start at the corner as in Pillow, rotations at the centre; a pixel's place
    # is its middle.
    across, down = (width - 1) / 2, (height - 1) / 2
    x0 = across - cos * across + sin * down + shear_x / 2 + shift_x
    y0 = down - sin * across - cos * down + shear_y / 2 + shift_y
    zero = ops.zeros_like(angle)
    places = ops.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=-1)  # (N, 8)
    fill = 255.0 * ops.convert_to_tensor(mean)
    return fill + ops.image.affine_transform(x - fill, places, "bilinear", "constant", 0.0)
