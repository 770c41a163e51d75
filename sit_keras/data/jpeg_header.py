"""The header of a JPEG of the common kind, found for little. ITU T.81, annex B."""

import typing

from sit_keras.data.orientation import UPRIGHT, exif_orientation

SIGNATURE = b"\xff\xd8\xff"
_FRAMES = (0xC0, 0xC1)  # one pass over the pixels, Huffman coding
_SCAN, _EXIF_OR_XMP = 0xDA, 0xE1
# Tables and their restart interval, what applications add, and comments.
_OTHERS = (0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE)
_MAX_SEGMENTS = 1000
_MAX_PIXELS = 2**27  # the rest is for Pillow, which has limits of its own


class JpegHeader(typing.NamedTuple):
    """What the header of a JPEG says.

    Args:
        height, width: in pixels, as they are stored.
        orientation: 1 to 8, see `sit_keras.data.orientation`.
    """

    height: int
    width: int
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the image when it has been set upright."""
        size = self.height, self.width
        return size[::-1] if self.orientation >= 5 else size


def common_jpeg(data: bytes) -> JpegHeader | None:
    """Returns the header of a JPEG that any decoder reads in the same way.

    It is of 8 bits, grey or of three colours, and stored in a single scan, so that decoding takes
    no more memory than its pixels. Its orientation is clear.

    Args:
        data: the whole file.

    Returns:
        JpegHeader, or None for any other file.
    """
    if not data.startswith(SIGNATURE):
        return None
    position, frame, exif = 2, None, None
    for _ in range(_MAX_SEGMENTS):
        code, length = data[position + 1 : position + 2], data[position + 2 : position + 4]
        if data[position : position + 1] != b"\xff" or len(length) < 2:
            return None
        end = position + 2 + int.from_bytes(length)
        segment, position = data[position + 4 : end], end
        if code[0] == _SCAN:
            if frame is None or segment[:1] != frame[5:6]:  # a scan of some of the colours
                return None
            return _header(frame, exif)
        if code[0] in _FRAMES:
            if frame is not None:
                return None
            frame = segment
        elif code[0] == _EXIF_OR_XMP and segment.startswith(b"Exif\0\0"):
            if exif is not None:  # in several parts
                return None
            exif = segment[6:]
        elif code[0] == _EXIF_OR_XMP and b"Orientation" in segment:
            return None
        elif code[0] not in _OTHERS:
            return None
    return None


def _header(frame: bytes, exif: bytes | None) -> JpegHeader | None:
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    orientation = UPRIGHT if exif is None else exif_orientation(exif)
    is_common = frame[0] == 8 and frame[5] in (1, 3) and 0 < height * width <= _MAX_PIXELS
    return JpegHeader(height, width, orientation) if is_common and orientation else None
