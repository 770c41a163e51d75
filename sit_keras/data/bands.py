"""Reads images of any number of channels: NumPy files, and by tifffile TIFF files.

Which values become 0 and 255 follows the rule of `sit_keras.data.pixel_values`, that of grey
images, for all channels together. Shapes: H W image, C channels.
"""

import contextlib
import math
import typing

import numpy as np
from PIL import Image, TiffImagePlugin

from sit_keras.config.extras import import_package
from sit_keras.data import numpy_file, orientation
from sit_keras.data.channels import unlike, with_channels
from sit_keras.data.decoding_budget import BUDGET, MOST_MEMORY
from sit_keras.data.pixel_values import (
    MULTIPLIED,
    PixelValues,
    Range,
    UnclearValues,
    transparency_of,
)

# Tags of TIFF.
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _FORMAT = 258, 262, 274, 277, 339
_GREY, _RGB = 1, 2  # photometric interpretations
_BIG_TIFF = 43  # the number that starts one of more than 4 GB
_BAND_AXES = "SCQI"  # of tifffile: samples, channels, unnamed, pages
_USUAL = (None, (0, 65535))  # the range of 16 bits
_ROWS = 256  # that are scaled at once
# The numbers of a file, the bits of each, its orientation and its transparency.
Stored = tuple[np.ndarray, int, int, int]
FIRST_CHANNELS = "its first axis is taken for the channels"


class Bands(typing.NamedTuple):
    """The numbers of one file.

    Args:
        values: (H, W, C) of whole numbers or floats.
        transparency: int. What the last channel is, as `transparency_of` says.
        opaque: float. The value of transparency that lets nothing through.
        kind: PixelValues. What the numbers mean.
        orientation: int. As EXIF counts it.
        note: str. What was taken for granted, or "".
    """

    values: np.ndarray
    transparency: int
    opaque: float
    kind: PixelValues
    orientation: int
    note: str


def holds_bands(stream: typing.BinaryIO, channels: int, value_range: Range | None) -> bool:
    """Returns whether a file is to be read by this module, and not by Pillow.

    It reads NumPy files, and TIFF files for other than one or three channels. It also reads the
    colours, with transparency or without, of TIFF files that Pillow does not know, or of whose 16
    bits it would keep the upper 8 where a range is given.
    """
    start = stream.read(len(numpy_file.START))
    stream.seek(0)
    if start == numpy_file.START:
        return True
    if start[:4] not in TiffImagePlugin.PREFIXES:
        return False
    if channels not in (1, 3):
        return True
    tags: typing.Mapping[int, typing.Any] = {}
    with contextlib.suppress(Exception):  # Pillow says what is wrong
        tags = tiff_tags(stream)
    stream.seek(0)
    bits = tags.get(_BITS, 1)
    bits = max(bits) if isinstance(bits, tuple) else bits
    if bits <= 8:
        return False
    photometric, samples = tags.get(_PHOTOMETRIC), tags.get(_SAMPLES, 1)
    if transparency_of(tags) and photometric == _GREY:
        return True
    if samples != 3 and not (transparency_of(tags) and photometric == _RGB):
        return False
    is_known = bits == 16 and tags.get(_FORMAT, 1) in (1, (1,), (1,) * samples)
    return not is_known or value_range not in _USUAL


def tiff_tags(stream: typing.BinaryIO) -> typing.Mapping[int, typing.Any]:
    """Returns the tags of the first image of a TIFF by their numbers; the stream starts anew."""
    start = stream.read(8)
    start += stream.read(8) if start[2] == _BIG_TIFF else b""
    tags = TiffImagePlugin.ImageFileDirectory_v2(start)
    stream.seek(tags.next)
    tags.load(stream)
    stream.seek(0)
    return tags


def read_bands(
    stream: typing.BinaryIO, channels: int, enough: int | None, value_range: Range | None
) -> np.ndarray:
    """Returns an image (H, W, channels) uint8; arguments as for `read_image`.

    Raises:
        UnclearValues: where nothing says what the values mean, or which axis has the channels.
        MissingPackage: if a TIFF needs tifffile and it is not installed.
    """
    with _opened(stream, channels) as bands:
        pixels = _scaled(bands, _limits(bands, value_range))
        shortest = min(pixels.shape[:2])
        if enough is not None and shortest >= 2 * enough:
            pixels = reduced(pixels, shortest // enough)
        return orientation.set_upright(with_channels(pixels, channels), bands.orientation)


def check_bands(stream: typing.BinaryIO, channels: int, value_range: Range | None) -> str:
    """Returns what people should know of how an image is read; raises as `read_bands`."""
    with _opened(stream, channels) as bands:
        return "; ".join(filter(None, [bands.note, bands.kind.note(_limits(bands, value_range))]))


def size_of_bands(stream: typing.BinaryIO, channels: int) -> tuple[int, int]:
    """Returns the height and the width of an image."""
    with _opened(stream, channels) as bands:
        return bands.values.shape[:2]


@contextlib.contextmanager
def _opened(stream, channels) -> typing.Iterator[Bands]:
    """Reads a file, of as many at a time as there is memory for until they are scaled."""
    is_numpy = stream.read(len(numpy_file.START)) == numpy_file.START
    stream.seek(0)
    with _numpy(stream) if is_numpy else _tiff(stream, channels) as stored:
        yield _bands(*stored, channels, is_numpy)


def _bands(values, bits, turned, transparency, channels, is_numpy) -> Bands:
    if values.dtype == bool:
        values = values.view(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise UnclearValues(
            f"it holds values of the type {values.dtype}: expected whole numbers or floats"
        )
    values, note = _channels_last(values, channels) if is_numpy else (values, "")
    if not values.size:
        raise ValueError("it has no pixels")
    given = values.shape[-1] - bool(transparency)
    if given != channels and {given, channels} != {1, 3}:
        raise UnclearValues(unlike(given, channels))
    name = values.dtype.name
    if values.dtype == np.uint8 and bits == 8:
        return Bands(values, 0, 0, PixelValues("8 bits", name), turned, note)
    known = values.dtype.kind == "u" and bits not in (8, 16, 32, 64)
    unsigned = bits - (values.dtype.kind == "i")
    largest = 1.0 if values.dtype.kind == "f" else float(2**unsigned - 1)
    declared = (0.0, largest) if known else None
    kind = PixelValues("grey", name, declared, is_16_bits=values.dtype == np.uint16)
    return Bands(values, transparency, largest, kind, turned, note)


@contextlib.contextmanager
def _numpy(stream) -> typing.Iterator[Stored]:
    broken = UnclearValues("it is no whole NumPy file of numbers: save one array by numpy.save")
    try:
        header = numpy_file.read_header(stream)
    except Exception as error:  # a broken header may say anything
        raise broken from error
    _refuse_large(header.shape, header.nbytes)
    with BUDGET.share(2 * header.nbytes):
        try:
            values = numpy_file.read_values(stream, header)
        except ValueError as error:
            raise broken from error
        yield values, 8 * values.dtype.itemsize, 1, 0


def _refuse_large(shape, nbytes):
    if 2 * nbytes > MOST_MEMORY:
        raise ValueError(
            f"to decode its {' x '.join(map(str, shape))} values would take "
            f"{2 * nbytes / 1e9:.1f} GB of memory, of which {MOST_MEMORY / 1e9:.1f} may be used: "
            "make it smaller"
        )


def _channels_last(values, channels):
    """Returns an array (H, W), (H, W, C) or (C, H, W) as (H, W, C), and a note."""
    likely = {1, 3} if channels in (1, 3) else {channels}
    if values.ndim == 2:
        return values[..., None], ""
    if values.ndim == 3 and values.shape[2] in likely:
        return values, ""
    if values.ndim == 3 and values.shape[0] in likely:
        return np.moveaxis(values, 0, 2), FIRST_CHANNELS
    hint = (
        f"train with --channels={min(values.shape[0], values.shape[2])}, or "
        if values.ndim == 3
        else ""
    )
    raise UnclearValues(
        f"its shape is {values.shape}, and (height, width, {channels}) or ({channels}, height, "
        f"width) is expected: {hint}save each image as an array of its own"
    )


@contextlib.contextmanager
def _tiff(stream, channels) -> typing.Iterator[Stored]:
    """Reads the first image of a TIFF as (H, W, C); its transparency is a channel among many."""
    transparency = transparency_of(tiff_tags(stream)) if channels in (1, 3) else 0
    tifffile = import_package("tifffile")
    with tifffile.TiffFile(stream) as file:
        series, page = file.series[0], file.pages[0]
        kept = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if n > 1]
        others = [axis for axis, _ in kept if axis not in "YX"]
        if len(others) > 1 or (others and others[0] not in _BAND_AXES):
            raise UnclearValues(
                f"it is a stack with the axes {series.axes} of {series.shape}, and one image with "
                "its channels is expected: save each image as a file of its own"
            )
        _refuse_large(series.shape, series.nbytes)
        turned, bits = page.tags.get(_ORIENTATION), page.bitspersample
        axes = [series.axes.index(axis) for axis in ("Y", "X", *others)]
        rest = [axis for axis in range(series.ndim) if axis not in axes]
        with BUDGET.share(2 * series.nbytes):
            values = np.transpose(_decoded(series), (*axes, *rest))
            values = values.reshape(values.shape[: len(axes)])  # the rest are of length 1
            values = values if others else values[..., None]
            yield values, bits, turned.value if turned else 1, transparency


def _decoded(series):
    try:
        return series.asarray()
    except Exception as error:  # tifffile tells of it by a text alone
        if "imagecodecs" in str(error):
            import_package("imagecodecs")
        raise


def _limits(bands: Bands, value_range) -> Range | None:
    """Returns the values that become 0 and 255, None for 8 bits."""
    if bands.kind.kind == "8 bits":
        return None
    colours = bands.values[..., :-1] if bands.transparency else bands.values
    low, high = float(colours.min()), float(colours.max())
    if bands.transparency and not np.isfinite(bands.values[..., -1]).all():
        low = math.nan
    return bands.kind.range_of(low, high, value_range)


def _scaled(bands: Bands, limits) -> np.ndarray:
    """Returns the colours of an image as (H, W, C) uint8."""
    values = bands.values
    if limits is None:
        return values
    low, high = limits
    height, width, channels = values.shape
    pixels = np.empty((height, width, channels - bool(bands.transparency)), np.uint8)
    for top in range(0, height, _ROWS):
        rows, opacity = values[top : top + _ROWS].astype(np.float64), np.ones(1)
        if bands.transparency:
            rows, opacity = rows[..., :-1], np.clip(rows[..., -1:] / bands.opaque, 0, 1)
        if bands.transparency == MULTIPLIED:
            rows = rows / np.where(opacity > 0, opacity, 1)
        shares = np.clip((rows - low) / (high - low), 0, 1) * opacity + (1 - opacity)  # over white
        pixels[top : top + _ROWS] = np.rint(shares * 255)
    return pixels


def reduced(pixels: np.ndarray, step: int) -> np.ndarray:
    """Returns pixels (H, W, C) uint8 at 1/step of their size, as Pillow reduces images."""
    if step == 1:
        return pixels
    layers = np.moveaxis(pixels, -1, 0)
    small = [np.asarray(Image.fromarray(np.ascontiguousarray(x)).reduce(step)) for x in layers]
    return np.stack(small, axis=-1)
