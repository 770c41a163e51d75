"""How the pixels of a file are stored, and what sets them upright. EXIF 2.3, tag 274."""

import struct

import numpy as np

TAG = 274
UPRIGHT = 1
_SHORT = 3  # the type of the tag's value


def set_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns an image (H, W, C) upright that was stored in one of the eight ways of EXIF."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def exif_orientation(exif: bytes) -> int | None:
    """Returns the orientation that EXIF data name.

    Args:
        exif: from their first byte, which is that of a TIFF header.

    Returns:
        1 to 8, which is 1 where they name none; None where they are not as they should be.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for i in range(count):
            entry = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * i)
            if entry[0] == TAG:
                is_known = entry[1:3] == (_SHORT, 1) and 1 <= entry[3] <= 8
                return entry[3] if is_known else None
    except struct.error:
        return None
    return UPRIGHT
