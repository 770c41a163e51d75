"""Crops, resizing and mirroring as products with interpolation matrices.

Shapes: B images, V views, H W C image. A box is (top, left, height, width) in pixels.
"""

from keras import ops


def resized_crop(images, boxes, flip, size: tuple[int, int]):
    """Cuts boxes out of images, resizes them and mirrors some.

    Crop, resize (antialiased bicubic as in Pillow, which never looks outside of the box) and flip
    are one interpolation matrix for the rows and one for the columns.

    Args:
        images: (B, H, W, C) float32 in [0, 1].
        boxes: (B, V, 4) float32, whole pixels inside the image.
        flip: (B, V) bool, mirror left to right.
        size: (height, width) of the result in pixels.

    Returns:
        (B, V, height, width, C) float32 in [0, 1].
    """
    batch, height, width, channels = ops.shape(images)
    views = boxes.shape[1]
    top, left, box_height, box_width = ops.unstack(boxes, 4, axis=-1)  # (B, V) each
    rows = _interpolation(top, box_height, height, size[0], ops.zeros_like(flip))
    columns = _interpolation(left, box_width, width, size[1], flip)  # (B, V, size, W)
    x = ops.reshape(images, (batch, 1, height, width * channels))
    x = ops.matmul(rows, x)  # (B, V, size, W * C)
    x = ops.reshape(x, (batch, views, size[0], width, channels))
    x = ops.einsum("bvpw,bvowc->bvopc", columns, x)
    return ops.clip(x, 0.0, 1.0)  # cubic weights overshoot


def letterboxed(images, colour, size: tuple[int, int]):
    """Resizes whole images until they fit, and fills what is left on both sides with a colour.

    The image keeps its aspect ratio to half a pixel, and lies in the middle: of an odd number of
    pixels that are left, one more lies below or to the right. The resizing is that of
    `resized_crop`.

    Args:
        images: (B, H, W, C) float32 in [0, 1].
        colour: C numbers in [0, 1].
        size: (height, width) of the result in pixels.

    Returns:
        (B, height, width, C) float32 in [0, 1].
    """
    height, width = ops.shape(images)[1:3]
    rows, inside_rows = _placement(height, width, *size)
    columns, inside_columns = _placement(width, height, *size[::-1])
    x = ops.einsum("oh,bhwc->bowc", rows, images)
    x = ops.clip(ops.einsum("pw,bowc->bopc", columns, x), 0.0, 1.0)
    is_inside = inside_rows[:, None, None] & inside_columns[None, :, None]  # (height, width, 1)
    return ops.where(is_inside, x, ops.cast(ops.array(colour), "float32"))


def _placement(length, other_length, size: int, other_size: int):
    """Returns the matrix (size, length) of one side of a letterboxed image.

    Args:
        length, other_length: int. This side of the image, and the other one.
        size, other_size: int. The same of the result.

    Returns:
        The matrix, and whether a pixel of the result lies inside of the image, (size,) bool.
    """
    source, other = (ops.cast(ops.reshape(n, (1,)), "float32") for n in (length, other_length))
    fitted = ops.clip(ops.round(source * other_size / other), 1.0, size)
    out = ops.arange(size, dtype="float32") - ops.floor((size - fitted) / 2)
    is_inside = (out >= 0.0) & (out < fitted)
    # A place beside the image repeats its border, so that it has weights to divide by.
    out = ops.clip(out, 0.0, fitted - 1.0)
    matrix = _weights(out, ops.zeros_like(source), source, source / fitted, length)
    return matrix, is_inside


def _interpolation(low, extent, length, size: int, reverse):
    """Returns the (..., size, length) matrix that resizes [low, low + extent) to `size` pixels."""
    out = ops.arange(size, dtype="float32")
    out = ops.where(reverse[..., None], size - 1 - out, out)  # (..., size)
    return _weights(out, low[..., None], extent[..., None], (extent / size)[..., None], length)


def _weights(out, low, extent, scale, length):
    """Returns how much each of `length` source pixels adds to the output pixels (..., size).

    Args:
        out: (..., size) numbers of output pixels.
        low, extent: (..., 1). The source pixels that are looked at.
        scale: (..., 1). How many source pixels an output pixel is wide.
        length: int. Of the source.
    """
    centre = low + (out + 0.5) * scale - 0.5
    source = ops.arange(length, dtype="float32")
    distance = (source - centre[..., None]) / ops.maximum(scale, 1.0)[..., None]
    low, high = low[..., None], (low + extent)[..., None]
    weights = ops.where((source >= low) & (source < high), _cubic(distance), 0.0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _cubic(x):
    """Keys' cubic convolution kernel with a = -0.5."""
    x = ops.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x <= 1.0, near, ops.where(x < 2.0, far, 0.0))
