"""Image files as a server takes them. NumPy and Pillow only."""

import io
import os
import pathlib
import stat
import typing
import warnings

from PIL import Image

from sit_keras.data.folder import find_images
from sit_keras.data.reading import read_image
from sit_keras.serving import limits

# Of one request; the second is for large files.
BATCH, BATCH_BYTES = 32, 32 << 20

# By the format of a file: bytes, pixels, and pixels times channels.
_MOST = {
    "JPEG": (limits.MAX_BYTES, limits.MAX_JPEG_PIXELS, limits.MAX_JPEG_SAMPLES),
    "PNG": (limits.MAX_PNG_DATA, limits.MAX_PNG_PIXELS, 4 * limits.MAX_PNG_PIXELS),
}
_ORIENTATION = 0x0112

Item = typing.TypeVar("Item")


def list_files(paths: typing.Iterable[str | os.PathLike]) -> list[pathlib.Path]:
    """Returns files as they are, and the images of folders, in order.

    Raises:
        ValueError: if a folder has no image.
    """
    files = []
    for path in map(pathlib.Path, paths):
        # os.path.isdir answers where pathlib raises, as it may behind a folder of somebody else.
        files += find_images(path) if os.path.isdir(path) else [path]
    return files


def image_bytes(path: str | os.PathLike, value_range: tuple[float, float] | None = None) -> bytes:
    """Returns a file as a server takes it: as it is, or turned upright, converted and made smaller.

    Args:
        path: the file.
        value_range: as for `sit_keras.data.reading.read_image`, which scales values of more than 8
            bits as training does; a server would not.

    Raises:
        OSError: if it is missing or no image. What is damaged within is left to the server.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of Pillow, about its metadata and size
            return _as_it_is(path) or _converted(path, value_range)
    except OSError:
        raise
    except Exception as error:  # whatever Pillow raises for a file is this file's fault alone
        raise OSError(f"{type(error).__name__}: {error}") from error


def batches(
    files: typing.Iterable[tuple[Item, bytes]],
) -> typing.Iterator[list[tuple[Item, bytes]]]:
    """Puts files into requests: 32 files, or fewer where they have 32 MiB together."""
    batch, size = [], 0
    for item, data in files:
        batch.append((item, data))
        size += len(data)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _as_it_is(path) -> bytes | None:
    """The content of a file that needs no change, or None."""
    # Without waiting: to open a named pipe waits for somebody who writes.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        if not _is_served(file):
            return None
        file.seek(0)
        return file.read(limits.MAX_BYTES)


def _is_served(file) -> bool:
    """Whether a file is upright, and of a format, size and depth that a server decodes."""
    try:
        with Image.open(file) as image:
            pixels = image.width * image.height
            sizes = os.fstat(file.fileno()).st_size, pixels, pixels * len(image.getbands())
            fits = all(
                size <= most for size, most in zip(sizes, _MOST[image.format or ""], strict=True)
            )
            return fits and not image.mode.startswith("I") and _is_upright(image)
    except Exception:  # `read_image` may know it, or says what is wrong
        return False


def _is_upright(image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION) not in range(2, 9)
    except Exception:  # odd metadata: the pixels may be sound
        return True


def _converted(path, value_range) -> bytes:
    image = Image.fromarray(read_image(path, 1024, value_range))
    image.thumbnail((2048, 2048))
    data = _encoded(image, "PNG")
    return data if len(data) <= limits.MAX_PNG_DATA else _encoded(image, "JPEG")


def _encoded(image, kind) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=95, subsampling=0)
    return buffer.getvalue()
