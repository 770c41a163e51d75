"""Reads one image file of any format and mode."""

import os

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Endings of pictures that are not read, and what can be done.
OTHER_IMAGES = dict.fromkeys(
    (".heic", ".heif", ".avif", ".jp2", ".dng", ".cr2", ".nef", ".arw", ".psd", ".svg"),
    "save them as JPEG or PNG",
)


def read_image(path: str | os.PathLike, enough: int | None = None) -> np.ndarray:
    """Reads an image file of any mode as upright RGB.

    The EXIF orientation is applied (the rotation task would otherwise learn from sideways photos),
    transparency is laid over white, 16-bit greys are scaled down, animations give their first
    frame.

    Args:
        path: the file.
        enough: int or None. A short side in pixels that suffices: a larger image is read at a whole
            fraction of its size, but never below it.

    Returns:
        (H, W, 3) uint8.

    Raises:
        OSError: if the file is missing, truncated or no image.
    """
    try:
        with Image.open(path) as file:
            if enough is not None:
                file.draft(None, (enough, enough))  # a JPEG decodes to 1/2, 1/4 or 1/8 for less
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):
                grey = np.asarray(image, dtype=np.float32) / 257.0
                image = Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("RGB")
            if enough is not None and min(image.size) >= 2 * enough:
                image = image.reduce(min(image.size) // enough)
            return np.asarray(image)
    except (ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow reports some broken files so.
        raise OSError(f"{path}: {error}") from error


def check_image(path: str | os.PathLike, value_range: tuple[float, float] | None = None) -> str:
    """Decodes a file once, since a truncated one only shows at its end.

    Args:
        path: the file.
        value_range: the values that become black and white, or None.

    Returns:
        What was done to its values, such as `16 bits scaled from 0..65535`, or "".

    Raises:
        OSError: if it cannot be used, with the reason.
    """
    read_image(path, enough=256)
    return ""
