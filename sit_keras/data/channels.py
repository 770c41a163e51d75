"""How many channels images have, how many a network takes, and what becomes of other ones."""

import numpy as np

from sit_keras.data.pixel_values import UnclearValues

# ITU-R 601 luma in 1/65536, as Pillow computes the mode `L`; grey values keep their value.
_LUMA = (19595, 38470, 7471)
_ONE = 1 << 16


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Returns pixels with the channels that a network takes.

    Grey is repeated for networks of colours, and of colours networks of grey take the luma. No
    other number of channels becomes another one.

    Args:
        pixels: (..., C) uint8.
        channels: int.

    Returns:
        (..., channels) uint8.

    Raises:
        UnclearValues: for any other number.
    """
    given = pixels.shape[-1]
    if given == channels:
        return pixels
    if (given, channels) == (1, 3):
        return np.repeat(pixels, 3, axis=-1)
    if (given, channels) == (3, 1):
        total = pixels.astype(np.uint32) @ np.array(_LUMA, np.uint32)
        return ((total + _ONE // 2) // _ONE).astype(np.uint8)[..., None]
    raise UnclearValues(unlike(given, channels))


def unlike(given: int, channels: int) -> str:
    """Says that images have another number of channels than is read, and how to mend it."""
    plural = "" if given == 1 else "s"
    return (
        f"it has {given} channel{plural}, and {channels} are expected: train with "
        f"--channels={given}, or leave the file out"
    )
