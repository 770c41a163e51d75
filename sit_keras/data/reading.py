"""Reads one image file of any format and mode, or finds out for little whether it can be read."""

import contextlib
import io
import os
import stat
import typing
import warnings

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from sit_keras.config.extras import MissingPackage
from sit_keras.data import bands, orientation
from sit_keras.data.channels import unlike, with_channels
from sit_keras.data.decoding_budget import BUDGET, MOST_MEMORY
from sit_keras.data.image_formats import readable_formats
from sit_keras.data.pixel_values import (
    PixelValues,
    Range,
    UnclearValues,
    bands_of,
    check_channels,
)
from sit_keras.data.record_address import RecordAddress

# How many times the decoded pixels decoding takes, where it is more than once (measured).
_COPIES = {"WEBP": 4, "AVIF": 3, "HEIF": 3, "PPM": 3}

# Tags of TIFF.
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323
SEVERAL_FRAMES = "only the first of several frames is read"
AS_STORED = "transparency is taken for a channel"
_WITH_ALPHA = {"LA": 2, "RGBA": 4}  # channels, where so many are asked for

# The C library keeps freed blocks of up to 32 MiB for itself, a heap for each thread: with Pillow's
# own size of 16 MiB, the pixels of large images would not be given back.
Image.core.set_block_size(64 * 2**20)

# They name no file; what a reader should know is said by this file. Threads share the filters of
# warnings, so they cannot be set for single calls.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(
    path: str | os.PathLike,
    enough: int | None = None,
    value_range: Range | None = None,
    channels: int = 3,
) -> np.ndarray:
    """Reads an image file of any mode as upright RGB, or with other channels.

    The EXIF orientation is applied (the rotation task would otherwise learn from sideways photos),
    transparency is laid over white, animations give their first frame, and values of more than 8
    bits are scaled by the rule of `sit_keras.data.pixel_values`. One channel is the luma of
    colours. Other numbers of channels are those of the file: a NumPy file, a TIFF, or one whose
    colours have transparency, as it is stored.

    Args:
        path: the file, or the text of a `RecordAddress`.
        enough: int or None. A short side in pixels that suffices: a larger image is read at a whole
            fraction of its size, but never below it.
        value_range: (low, high) or None. Which values become black and white in files of more than
            8 bits; others are not concerned. (`PreprocessingConfig.value_range` is another thing:
            the range of the arrays that a model is given.)
        channels: int. How many channels are wanted.

    Returns:
        (H, W, channels) uint8.

    Raises:
        OSError: if the file is missing, truncated, too large or no image, or nothing says what its
            values mean; in a sentence that names the file.
        MissingPackage: if it is a TIFF of channels that Pillow does not know, without tifffile.
    """
    with _naming(path), _stream(path) as stream:
        if bands.holds_bands(stream, channels, value_range):
            return bands.read_bands(stream, channels, enough, value_range)
        with _opened(stream) as file:
            values = _values_of(file, channels)
            with _decoded(file, enough):
                limits = values.range_in(file, value_range)
                pixels = _eight_bits(file, values, limits, enough, channels)
                stored = _orientation(file)
    return orientation.set_upright(pixels, stored)


def check_image(
    path: str | os.PathLike, value_range: Range | None = None, channels: int = 3
) -> str:
    """Finds out whether a file can be read, for as little work as that takes.

    Args:
        path, value_range, channels: as for `read_image`.

    Returns:
        What people should know of how it is read, which is the same text for files that are read in
        the same way; empty where there is nothing to say.

    Raises:
        OSError: as `read_image`.
    """
    with _naming(path), _stream(path) as stream:
        if bands.holds_bands(stream, channels, value_range):
            return bands.check_bands(stream, channels, value_range)
        with _opened(stream) as file:
            values = _values_of(file, channels)
            notes = [SEVERAL_FRAMES] if _has_several_frames(file) else []
            notes += [AS_STORED] if channels not in (1, 3) else []
            with _decoded(file, enough=1):
                notes.append(values.note(values.range_in(file, value_range)))
    return "; ".join(filter(None, notes))


def short_side(path: str | os.PathLike, channels: int = 3) -> int:
    """Returns the shorter side of an image in pixels, by its header alone.

    Of images that `sit_keras.data.bands` reads the whole file is read.

    Raises:
        OSError: as `read_image`.
    """
    with _naming(path), _stream(path) as stream:
        if bands.holds_bands(stream, channels, None):
            return min(bands.size_of_bands(stream, channels))
        with _opened(stream) as file:
            return min(file.size)


@contextlib.contextmanager
def _naming(path):
    """Whatever goes wrong with a file becomes an OSError that names it."""
    try:
        yield
    except MissingPackage:  # the next file would need it too
        raise
    except Exception as error:  # Pillow raises many kinds for broken files
        raise OSError(f"{os.fspath(path)}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is too little memory to decode it"
    if isinstance(error, UnidentifiedImageError):
        return "its content is no image of a kind that is read, or it is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: make it smaller"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")


def _stream(path) -> typing.BinaryIO:
    address = RecordAddress.parse(os.fspath(path))
    if address is not None:
        return io.BytesIO(address.read())
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never end
        raise ValueError("it is not a regular file")
    return open(path, "rb")


@contextlib.contextmanager
def _opened(stream) -> typing.Iterator[Image.Image]:
    # Given the path, Pillow maps some files, and the process would end with one that is cut short.
    try:
        file = Image.open(stream, formats=readable_formats())
    except UnidentifiedImageError:
        _explain_tiff(stream)
        raise
    with file:
        if not file.width * file.height:
            raise ValueError("it has no pixels")
        yield file


def _values_of(file, channels) -> PixelValues:
    """What the numbers in a file are, which must have the channels that are wanted."""
    values = PixelValues.of(file)
    if channels not in (1, 3):
        grey = values.kind == "grey" or file.mode in ("1", "L")
        given = 1 if grey else _WITH_ALPHA.get(file.mode, 3)  # as those of a palette or of print
        if given != channels:
            raise UnclearValues(unlike(given, channels))
    return values


def _explain_tiff(stream):
    """Raises UnclearValues for a TIFF that Pillow does not know for its number of channels."""
    stream.seek(0)
    start = stream.read(4)
    stream.seek(0)
    if start in TiffImagePlugin.PREFIXES:
        check_channels(bands.tiff_tags(stream))


@contextlib.contextmanager
def _decoded(file, enough):
    """Decodes the pixels of an opened file, of as many files at a time as there is memory for."""
    whole = file.width * file.height
    if enough is not None:
        file.draft(None, (enough, enough))  # a JPEG decodes to 1/2, 1/4 or 1/8 for less
    cost = _memory(file, whole)
    if enough is not None and cost > MOST_MEMORY:
        raise ValueError(
            f"to decode its {file.width:,} x {file.height:,} pixels would take {cost / 1e9:.1f} GB "
            f"of memory, of which {MOST_MEMORY / 1e9:.1f} may be used: make it smaller"
        )
    if not isinstance(file.info.get("xmp", b""), bytes):
        del file.info["xmp"]  # a TIFF with a text there could not be decoded
    with BUDGET.share(cost):
        try:
            file.load()
            yield
        finally:
            file.close()  # frees the pixels before the next file is decoded


def _memory(file, whole: int) -> int:
    """About how many bytes decoding takes.

    Args:
        file: opened, in the size in which it will be decoded.
        whole: int. The number of pixels in the file.
    """
    pixels = file.width * file.height
    size = pixels * (1 if file.mode in ("1", "L", "P") else 2 if "16" in file.mode else 4)
    layers = getattr(file, "layer", None)
    if layers:  # a JPEG of several scans keeps 16 bits for each coefficient of its full size
        largest = max(down for _, down, _, _ in layers) * max(across for _, _, across, _ in layers)
        samples = sum(down * across for _, down, across, _ in layers)
        return size + 2 * whole * samples // max(largest, 1)
    if file.format == "TIFF":  # besides the pixels, one strip or tile of them, and the mapped file
        rows = file.tag_v2.get(_TILE_LENGTH, file.tag_v2.get(_ROWS_PER_STRIP, file.height))
        block = file.tag_v2.get(_TILE_WIDTH, file.width) * rows
        is_mapped = file.tile[0][0] == "libtiff"
        mapped = os.fstat(file.fp.fileno()).st_size if is_mapped else 0
        return size + size * min(block, pixels) // pixels + mapped
    return size * _COPIES.get(file.format, 1)


def _eight_bits(file, values, limits, enough, channels) -> np.ndarray:
    """The pixels of a decoded image, (H, W, channels) uint8, at a whole fraction of its size."""
    shortest = min(file.size)
    step = shortest // enough if enough is not None and shortest >= 2 * enough else 1
    pixels = np.empty((-(-file.height // step), -(-file.width // step), channels), np.uint8)
    top = 0
    for band in bands_of(file, step):
        if channels not in (1, 3):
            rows = bands.reduced(np.asarray(band), step)
        else:
            is_grey = values.kind == "grey"
            band = values.grey(band, limits) if is_grey else _without_transparency(band)
            band = band.convert("RGB")
            rows = with_channels(np.asarray(band.reduce(step) if step > 1 else band), channels)
        pixels[top : top + len(rows)] = rows
        top += len(rows)
    return pixels


def _without_transparency(image):
    """Lays an image over white."""
    if not image.has_transparency_data:
        return image
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _orientation(file) -> int:
    """How the pixels of a decoded file are stored; 1, upright, where that cannot be read."""
    with contextlib.suppress(Exception):  # odd metadata are not the fault of the pixels
        return int(file.getexif().get(orientation.TAG, 1))
    return 1


def _has_several_frames(file) -> bool:
    """Whether an opened file is an animation or a stack; a second picture of a camera is not."""
    with contextlib.suppress(Exception):  # what is wrong beyond the first frame does not matter
        return file.format != "MPO" and bool(getattr(file, "is_animated", False))
    return False
