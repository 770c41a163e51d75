"""What is shown of images of many channels."""

import numpy as np

SHOWN_CHANNELS = "the first three channels as red, green and blue (of two, the first)"


def visible(pixels: np.ndarray) -> np.ndarray:
    """Returns what a picture can show of images.

    Args:
        pixels: (..., C) of any type.

    Returns:
        (..., 1) of one channel or two, (..., 3) of more: the first three.
    """
    return pixels[..., : 3 if pixels.shape[-1] >= 3 else 1]
