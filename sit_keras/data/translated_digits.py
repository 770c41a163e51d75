"""The digits of scikit-learn, each at a random place and in a random size on a black canvas.

Shapes: N images.
"""

import numpy as np

CANVAS = 28
SMALLEST, LARGEST = 12, 20
_SEED = 0
_SIDE, _WHITE = 8, 16  # of scikit-learn's images


def translate(images: np.ndarray) -> np.ndarray:
    """Places each image on a canvas of its own.

    Places and sizes follow from a fixed seed and the order of the images, and pixels are worked out
    in whole numbers, so everybody has the same ones.

    Args:
        images: (N, 8, 8), whole numbers from 0 to 16.

    Returns:
        (N, 28, 28) uint8, black around the digits.
    """
    canvases = np.zeros((len(images), CANVAS, CANVAS), np.uint8)
    squares = draw_squares(len(images)).tolist()
    for canvas, image, (top, left, side) in zip(canvases, images, squares, strict=True):
        canvas[top : top + side, left : left + side] = _enlarge(image.astype(np.int64), side)
    return canvases


def draw_squares(count: int) -> np.ndarray:
    """Draws the squares of the first images: sides of 12 to 20 px, anywhere on the canvas.

    Args:
        count: int. N.

    Returns:
        (N, 3) int64: top, left and side in pixels.
    """
    # NumPy keeps the numbers of this generator the same in all versions.
    uniforms = np.random.RandomState(_SEED).random_sample((count, 3))
    side = SMALLEST + np.floor(uniforms[:, 2:] * (LARGEST - SMALLEST + 1)).astype(np.int64)
    corner = np.floor(uniforms[:, :2] * (CANVAS - side + 1)).astype(np.int64)
    return np.concatenate([corner, side], axis=1)


def _enlarge(image, side: int):
    """Resizes an image (8, 8) int64 to (side, side) levels of 0 to 255, bilinearly."""
    unit = 2 * side  # the weights are whole multiples of 1 / unit
    new = np.arange(side)
    centre = np.clip(_SIDE * (2 * new + 1) - side, 0, (_SIDE - 1) * unit)
    low, share = np.divmod(centre, unit)
    weights = np.zeros((side, _SIDE), np.int64)
    weights[new, low] = unit - share
    weights[new, np.minimum(low + 1, _SIDE - 1)] += share
    total = weights @ image @ weights.T
    white = _WHITE * unit**2
    return (2 * 255 * total + white) // (2 * white)
