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


def _interpolation(low, extent, length, size: int, reverse):
    """Returns the (..., size, length) matrix that resizes [low, low + extent) to `size` pixels."""
    scale = (extent / size)[..., None]  # (..., 1)
    out = ops.arange(size, dtype="float32")
    out = ops.where(reverse[..., None], size - 1 - out, out)  # (..., size)
    centre = low[..., None] + (out + 0.5) * scale - 0.5
    source = ops.arange(length, dtype="float32")
    distance = (source - centre[..., None]) / ops.maximum(scale, 1.0)[..., None]
    low, high = low[..., None, None], (low + extent)[..., None, None]
    weights = ops.where((source >= low) & (source < high), _cubic(distance), 0.0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _cubic(x):
    """Keys' cubic convolution kernel with a = -0.5."""
    x = ops.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x <= 1.0, near, ops.where(x < 2.0, far, 0.0))
