"""What the numbers in an image file mean: which of them become black and white.

Files of 8 bits are taken as they are. For all others the rule is, in this order:

| the file | without `value_range` | with `value_range=(low, high)` |
|---|---|---|
| names its largest value: TIFF of 12 bits, PNM | 0 is black, that value is white | low to high |
| 16 bits, grey, largest value above 4095 | 0 is black, 65535 is white | low to high |
| 16 bits, grey, all values at most 4095 | refused | low to high |
| 16 bits, several channels, TIFF of RGB | as grey, by the upper 8 bits | low to high |
| 16 bits, several channels, others | as grey, by the upper 8 bits | refused, but for 0, 65535 |
| signed, 32 bits, or floating point | refused | low to high |

"Low to high" means: low becomes black, high becomes white, values beyond them are clipped. Values
that are not finite are refused, and so are channels beyond colour and transparency. Transparency
itself has the full range of its type, and is laid over white.
"""

import dataclasses
import typing

import numpy as np
from PIL import Image

# Tags of TIFF.
_BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT = 258, 262, 277, 338, 339
# How many samples of a pixel are its colour, by the photometric interpretation.
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
MULTIPLIED = 1
_ALPHA = (MULTIPLIED, 2)  # the kinds of extra samples that are transparency
_MIN_IS_WHITE = 0

# The modes of Pillow that become RGB by its own rules, of 8 bits or fewer.
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
_FULL = (0.0, 65535.0)
_TWELVE_BITS = 4095
_BAND = 2**19  # pixels

Range = tuple[float, float]


class UnclearValues(ValueError):
    """Nothing says what the values of a file mean, or they cannot be kept."""


@dataclasses.dataclass(frozen=True)
class PixelValues:
    """The kind of numbers in one file.

    Args:
        kind: `8 bits`, `grey` (one channel of more, which NumPy maps) or `colour` (several channels
            of more than 8 bits, of which Pillow hands on the upper 8).
        name: str. What they are called in messages.
        declared: (low, high) or None. The range that the file itself names.
        is_16_bits: bool. Unsigned, of 16 bits.
        stored_as: a NumPy dtype that the bytes have where Pillow names another one, or None.
        scale: float. By which Pillow's numbers are multiplied to be those of the file.
        is_inverted: bool. Whether the smallest value is white.
    """

    kind: str
    name: str
    declared: Range | None = None
    is_16_bits: bool = False
    stored_as: str | None = None
    scale: float = 1.0
    is_inverted: bool = False

    @classmethod
    def of(cls, file: Image.Image) -> "PixelValues":
        """Finds out what a file has, before its pixels are decoded.

        Raises:
            UnclearValues: for channels that would be dropped or taken for something else, and for
                modes that do not become RGB.
        """
        tags = getattr(file, "tag_v2", {})
        if tags:
            check_channels(tags)
        raw, most = _raw_mode(file)
        name = f"mode {file.mode}"
        if file.mode.startswith("I;16") or (
            file.mode == "I" and (raw in ("I;16", "I;16B") or most == _FULL[1])
        ):
            bits = 12 if raw == "I;12" else 16
            declared = (0.0, float(_TWELVE_BITS)) if bits == 12 else None
            name, inverted = f"{name}, {bits} bits", _is_inverted(tags)
            return cls("grey", name, declared, is_16_bits=True, is_inverted=inverted)
        if file.mode == "I" and most:  # PNM, whose values Pillow scales to 16 bits
            scale = most / _FULL[1]
            return cls("grey", f"{name}, 0 to {most}", (0.0, float(most)), scale=scale)
        if file.mode == "I":
            stored_as = "uint32" if raw == "I;32N" and _sample_format(tags) == 1 else None
            what = "32 bits without sign" if stored_as else f"{raw[2:4] or 32} bits with sign"
            name = f"{name}, {what}"
            return cls("grey", name, stored_as=stored_as, is_inverted=_is_inverted(tags))
        if file.mode == "F":
            name = f"{name}, floating point"
            return cls("grey", name, is_inverted=_is_inverted(tags))
        if file.mode == "L" and _sample_format(tags) == 2:
            return cls("grey", f"{name}, 8 bits with sign", stored_as="int8")
        if file.mode not in _EIGHT_BITS:
            raise UnclearValues(
                f"pixels of mode {file.mode} do not become RGB here: convert it to RGB"
            )
        if ";16" in raw or most > 255:
            declared = None if most in (0, 65535) else (0.0, float(most))
            return cls("colour", f"{name} of 16 bits", declared)
        return cls("8 bits", name)

    def range_in(self, image: Image.Image, value_range: Range | None) -> Range | None:
        """Returns what becomes black and white, None for files of 8 bits.

        Args:
            image: the decoded image.
            value_range: the user's (low, high), or None.

        Raises:
            UnclearValues: where the rule at the top of this file refuses.
        """
        if self.kind == "8 bits":
            return None
        if self.kind == "colour":
            return self._range_of_colour(image, value_range)
        low, high = self._extremes(image)
        return self.range_of(low, high, value_range)

    def range_of(self, low: float, high: float, value_range: Range | None) -> Range:
        """Returns what becomes black and white of `grey` values.

        Args:
            low, high: the least and the largest value; not finite where one of them is not.
            value_range: the user's (low, high), or None.

        Raises:
            UnclearValues: as `range_in`.
        """
        if not np.isfinite([low, high]).all():
            raise UnclearValues(
                f"some of its values ({self.name}) are not finite: replace them in the file"
            )
        given = value_range or self.declared
        if given is not None:
            return given
        values = f"its values ({self.name}) lie in {low:g} to {high:g}"
        if self.is_16_bits and high > _TWELVE_BITS:
            return _FULL
        if self.is_16_bits:
            raise UnclearValues(
                f"{values}, so that of the full range of 16 bits it would be almost black: give "
                "--value_range=0,4095 (12 bits) or --value_range=0,65535 (the full range)"
            )
        suggested = f"{low:g},{high:g}" if low < high else f"{low:g},{low + 1:g}"
        raise UnclearValues(
            f"{values}, and nothing says which of them are black and white: give both, such as "
            f"--value_range={suggested}"
        )

    def grey(self, band: Image.Image, limits: Range) -> Image.Image:
        """Returns rows of `grey` values as 8 bits: limits[0] is black, limits[1] is white."""
        low, high = limits
        values = self._numbers(band)
        shares = np.clip((values.astype(np.float64) * self.scale - low) / (high - low), 0, 1)
        pixels = np.rint((1 - shares if self.is_inverted else shares) * 255).astype(np.uint8)
        transparent = band.info.get("transparency")
        if isinstance(transparent, int):
            pixels[values == transparent] = 255
        return Image.fromarray(pixels)

    def note(self, limits: Range | None) -> str:
        """Says what is done to the values, or nothing where they are taken as they are."""
        if limits is None:
            return ""
        return f"values from {limits[0]:g} to {limits[1]:g} scaled to 0 to 255"

    def _numbers(self, band):
        numbers = np.asarray(band)
        return numbers.view(self.stored_as) if self.stored_as else numbers

    def _extremes(self, image):
        """The least and the largest value; NaN if there is one."""
        parts = (self._numbers(band) for band in bands_of(image))
        both = [(numbers.min(), numbers.max()) for numbers in parts]
        low, high = np.min(both, axis=0)[0], np.max(both, axis=0)[1]
        return float(low) * self.scale, float(high) * self.scale

    def _range_of_colour(self, image, value_range):
        usual = self.declared or _FULL
        if value_range is not None and tuple(value_range) != usual:
            raise UnclearValues(
                f"--value_range={value_range[0]:g},{value_range[1]:g} cannot be applied, since "
                f"only the upper 8 bits of its values ({self.name}) can be read: convert it to an "
                "RGB TIFF, or to 8 bits a channel"
            )
        colours = len(image.getbands()) - image.mode.endswith("A")
        largest = max(high for _, high in image.getextrema()[:colours])
        if value_range is None and self.declared is None and largest <= _TWELVE_BITS >> 8:
            raise UnclearValues(
                f"its values ({self.name}) are at most {_TWELVE_BITS}, so that of the full range "
                "of 16 bits it would be almost black: convert it to 8 bits a channel, or give "
                "--value_range=0,65535 if it is as dark as that"
            )
        return usual


def bands_of(image: Image.Image, step: int = 1) -> typing.Iterator[Image.Image]:
    """Yields an image in bands of rows, so that what is made of one takes little memory.

    Args:
        image: decoded, of any mode.
        step: int. Divides the number of rows of each band but the last.
    """
    rows = max(1, _BAND // (image.width * step)) * step
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def check_channels(tags: dict) -> None:
    """Refuses a TIFF with channels that are neither colour nor transparency.

    Pillow takes a fourth channel that has no name for transparency, and drops others.

    Args:
        tags: the values of the first image's tags, by their numbers.

    Raises:
        UnclearValues: for such channels.
    """
    samples = int(tags.get(_SAMPLES, 1) or 1)
    colours = _COLOURS.get(tags.get(_PHOTOMETRIC, 0), 1)
    if samples <= colours or transparency_of(tags):
        return
    raise UnclearValues(
        f"it has {samples} channels, of which {colours} "
        f"{'is its colour' if colours == 1 else 'are its colours'}, and the others are not (or not "
        f"only) transparency: train with --channels={samples}, or write the one or the three that "
        "are meant as a file of their own"
    )


def transparency_of(tags: typing.Mapping[int, typing.Any]) -> int:
    """Returns what the one channel of a TIFF beyond its colours is.

    Args:
        tags: as for `check_channels`.

    Returns:
        `MULTIPLIED` for a transparency by which the colours are multiplied, another number for one
        by which they are not, and 0 for no transparency.
    """
    extra = tags.get(_EXTRA, ())
    extra = tuple(extra) if isinstance(extra, (tuple, list)) else (extra,)
    colours = _COLOURS.get(tags.get(_PHOTOMETRIC, 0), 1)
    is_one_more = tags.get(_SAMPLES, 1) == colours + 1
    return extra[0] if is_one_more and extra[:1] and extra[0] in _ALPHA else 0


def _raw_mode(file):
    """How the pixels lie in the file, by Pillow's name, and the largest value that it declares."""
    if not file.tile:
        return file.mode, 0
    arguments = file.tile[0][3]
    arguments = arguments if isinstance(arguments, (tuple, list)) else (arguments,)
    raw = arguments[0] if isinstance(arguments[0], str) else file.mode
    declares = file.format == "PPM" and file.mode != "F" and len(arguments) == 2
    return raw, int(arguments[1]) if declares else 0


def _sample_format(tags):
    formats = tags.get(_FORMAT, (1,))
    return formats[0] if isinstance(formats, tuple) else formats


def _is_inverted(tags):
    return bool(tags) and tags.get(_PHOTOMETRIC, _MIN_IS_WHITE) == _MIN_IS_WHITE
