"""Maps of patches laid over images.

Shapes: H W image, C channels, R r rows and columns of patches.
"""

import matplotlib
import numpy as np
from PIL import Image

COLOURS = "inferno"
_OPACITY = 0.65


def spread_out(weights: np.ndarray) -> np.ndarray:
    """Scales a map so that its least value becomes 0 and its greatest 1.

    Args:
        weights: (R, r) float32.

    Returns:
        (R, r) float32; zeros where all values are the same.
    """
    low, high = float(weights.min()), float(weights.max())
    return (np.asarray(weights, "float32") - low) / max(high - low, 1e-12)


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolates a map between the centres of its patches.

    Args:
        values: (R, r) float32, or (R, r, 3) float32 in [0, 1].
        size: (H, W).

    Returns:
        (H, W) or (H, W, 3) float32 within the range of `values`.
    """
    layers = np.atleast_3d(np.asarray(values, "float32"))
    height, width = size
    large = [
        np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BILINEAR))
        for layer in np.moveaxis(layers, -1, 0)
    ]
    return np.stack(large, axis=-1).reshape(*size, *np.shape(values)[2:])


def over_image(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Lays a map over an image: scaled to its own range, enlarged, and coloured.

    Args:
        pixels: (H, W, C) float32 in [0, 1], C 1 or 3.
        weights: (R, r) float32, such as the attention to each patch.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    heat = enlarged(spread_out(weights), pixels.shape[:2])
    coloured = matplotlib.colormaps[COLOURS](heat)[..., :3]
    grey = pixels.mean(axis=-1, keepdims=True)  # colours of the image would be taken for the map's
    return (_OPACITY * coloured + (1 - _OPACITY) * grey).astype("float32")
