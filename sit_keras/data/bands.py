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
from sit_keras.data import orientation
from sit_keras.data.channels import unlike, with_channels
from sit_keras.data.decoding_budget import BUDGET, MOST_MEMORY
from sit_keras.data.pixel_values import PixelValues, Range, UnclearValues

_NUMPY = b"\x93NUMPY"
_BITS, _SAMPLES, _ORIENTATION = 258, 277, 274  # tags of TIFF
_BIG_TIFF = 43  # the number that starts one of more than 4 GB
_BAND_AXES = "SCQI"  # of tifffile: samples, channels, unnamed, pages
_USUAL = (None, (0, 65535))  # the range of 16 bits
_ROWS = 256  # that are scaled at once
FIRST_CHANNELS = "its first axis is taken for the channels"


class Bands(typing.NamedTuple):
    """The numbers of one file.

    Args:
        values: (H, W, C) of whole numbers or floats.
        kind: PixelValues. What the numbers mean.
        orientation: int. As EXIF counts it.
        note: str. What was taken for granted, or "".
    """

    values: np.ndarray
    kind: PixelValues
    orientation: int
    note: str


def holds_bands(stream: typing.BinaryIO, channels: int, value_range: Range | None) -> bool:
    """Returns whether a file is to be read by this module, and not by Pillow.

    It reads NumPy files, and TIFF files for other than one or three channels. It also reads the
    colours of TIFF files that Pillow does not know, or of whose 16 bits it would keep the upper 8
    where a range is given.
    """
    start = stream.read(len(_NUMPY))
    stream.seek(0)
    if start == _NUMPY:
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
    return tags.get(_SAMPLES, 1) == 3 and bits > 8 and (bits != 16 or value_range not in _USUAL)


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
    bands = _open(stream, channels)
    with BUDGET.share(2 * bands.values.nbytes):
        pixels = _scaled(bands.values, _limits(bands, value_range))
        shortest = min(pixels.shape[:2])
        if enough is not None and shortest >= 2 * enough:
            pixels = reduced(pixels, shortest // enough)
    return orientation.set_upright(with_channels(pixels, channels), bands.orientation)


def check_bands(stream: typing.BinaryIO, channels: int, value_range: Range | None) -> str:
    """Returns what people should know of how an image is read; raises as `read_bands`."""
    bands = _open(stream, channels)
    return "; ".join(filter(None, [bands.note, bands.kind.note(_limits(bands, value_range))]))


def size_of_bands(stream: typing.BinaryIO, channels: int) -> tuple[int, int]:
    """Returns the height and the width of an image."""
    return _open(stream, channels).values.shape[:2]


def _open(stream, channels) -> Bands:
    is_numpy = stream.read(len(_NUMPY)) == _NUMPY
    stream.seek(0)
    values, bits, turned = _numpy(stream) if is_numpy else _tiff(stream)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype.kind not in "uif":
        raise UnclearValues(
            f"it holds values of the type {values.dtype}: expected whole numbers or floats"
        )
    values, note = _channels_last(values, channels) if is_numpy else (values, "")
    if not values.size:
        raise ValueError("it has no pixels")
    if values.shape[-1] != channels and {values.shape[-1], channels} != {1, 3}:
        raise UnclearValues(unlike(values.shape[-1], channels))
    name = values.dtype.name
    if values.dtype == np.uint8 and bits == 8:
        return Bands(values, PixelValues("8 bits", name), turned, note)
    known = values.dtype.kind == "u" and bits not in (8, 16, 32, 64)
    declared = (0.0, float(2**bits - 1)) if known else None
    kind = PixelValues("grey", name, declared, is_16_bits=values.dtype == np.uint16)
    return Bands(values, kind, turned, note)


def _numpy(stream):
    broken = UnclearValues("it is no whole NumPy file of numbers: save one array by numpy.save")
    try:
        shape, nbytes = _numpy_size(stream)
    except Exception as error:  # NumPy raises several kinds
        raise broken from error
    _refuse_large(shape, nbytes)
    with BUDGET.share(2 * nbytes):
        try:
            values = np.load(stream, allow_pickle=False)
        except Exception as error:
            raise broken from error
    return values, 8 * values.dtype.itemsize, 1


def _numpy_size(stream):
    """Returns the shape of the array of a NumPy file and its bytes; the stream starts anew."""
    version = np.lib.format.read_magic(stream)
    # The third version differs from the second in names of fields alone.
    second = np.lib.format.read_array_header_2_0
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else second
    shape, _, dtype = read(stream)
    stream.seek(0)
    return shape, math.prod(shape) * dtype.itemsize


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


def _tiff(stream):
    """Returns the first image of a TIFF as (H, W, C), its bits, and its orientation."""
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
        with BUDGET.share(2 * series.nbytes):
            values = series.asarray()
        turned = page.tags.get(_ORIENTATION)
        bits = page.bitspersample
    axes = [series.axes.index(axis) for axis in ("Y", "X", *others)]
    rest = [axis for axis in range(values.ndim) if axis not in axes]
    values = np.transpose(values, (*axes, *rest))
    values = values.reshape(values.shape[: len(axes)])  # the rest are of length 1
    return values if others else values[..., None], bits, turned.value if turned else 1


def _limits(bands: Bands, value_range) -> Range | None:
    """Returns the values that become 0 and 255, None for 8 bits."""
    if bands.kind.kind == "8 bits":
        return None
    low, high = bands.values.min(), bands.values.max()
    return bands.kind.range_of(float(low), float(high), value_range)


def _scaled(values, limits) -> np.ndarray:
    if limits is None:
        return values
    low, high = limits
    pixels = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):
        shares = (values[top : top + _ROWS].astype(np.float64) - low) / (high - low)
        pixels[top : top + _ROWS] = np.rint(np.clip(shares, 0, 1) * 255)
    return pixels


def reduced(pixels: np.ndarray, step: int) -> np.ndarray:
    """Returns pixels (H, W, C) uint8 at 1/step of their size, as Pillow reduces images."""
    if step == 1:
        return pixels
    layers = np.moveaxis(pixels, -1, 0)
    small = [np.asarray(Image.fromarray(np.ascontiguousarray(x)).reduce(step)) for x in layers]
    return np.stack(small, axis=-1)
