"""What a JPEG file will cost, found in the graph before it is decoded.

A progressive file goes over all its pixels in each of its scans, and a scan that changes nothing
takes a few bytes. ITU T.81, annex B.
"""

import typing

import tensorflow as tf

from sit_keras.serving.limits import (
    MAX_JPEG_PIXELS,
    MAX_JPEG_SCAN_PIXELS,
    MAX_JPEG_SCANS,
    MAX_JPEG_SEGMENTS,
)

SIGNATURE = bytes([0xFF, 0xD8, 0xFF])
ARITHMETIC = "a JPEG of arithmetic coding: save it with Huffman coding"
TOO_MANY_SEGMENTS = f"too many segments: at most {MAX_JPEG_SEGMENTS} before the image of a JPEG"
TOO_MANY_SCANS = (
    f"too many scans: at most {MAX_JPEG_SCANS} of a JPEG, and scans times pixels at most "
    f"{MAX_JPEG_SCAN_PIXELS}, which is {MAX_JPEG_SCAN_PIXELS // MAX_JPEG_PIXELS} scans at the "
    "largest size"
)

_SCAN = 0xFFDA
_FRAMES = [0xFFC0 + i for i in range(16) if i not in (4, 8, 12)]  # one for each way of coding
_ARITHMETIC = [0xFFC9, 0xFFCA]
_WITHOUT_LENGTH = [0xFF01, *range(0xFFD0, 0xFFD8)]
_START, _END = 0xFFD8, 0xFFD9
_BAND = 1 << 20


class JpegHeader(typing.NamedTuple):
    """What stands before the first scan of a JPEG, all of them () tensors.

    Args:
        whole: bool. There are a frame and a scan.
        too_many: bool. There are more segments than the limit.
        arithmetic: bool. The coding is arithmetic.
        height: int64, pixels.
        width: int64, pixels.
        components: int64, 3 of a JPEG in colour.
        scan: int32. Where the first scan begins.
    """

    whole: tf.Tensor
    too_many: tf.Tensor
    arithmetic: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    components: tf.Tensor
    scan: tf.Tensor


def jpeg_header(file: tf.Tensor) -> JpegHeader:
    """Walks over the segments of a JPEG as the decoder does, up to the first scan.

    Args:
        file: () string, which begins as a JPEG.
    """
    size = tf.strings.length(file)

    def goes_on(count, position, frame, whole, broken):
        return ~whole & ~broken & (position + 4 <= size) & (count < MAX_JPEG_SEGMENTS)

    def step(count, position, frame, whole, broken):
        code, length = tf.unstack(_numbers(file, position, 2))
        # The decoder passes over bytes that are no marker, and over padding.
        is_marker = (code > 0xFF00) & (code < 0xFFFF)
        is_bare = tf.reduce_any(tf.equal(code, _WITHOUT_LENGTH))
        size_of_other = tf.where(is_bare | tf.equal(code, 0xFF00), 2, 1)
        has_length = is_marker & ~is_bare
        is_frame = tf.reduce_any(tf.equal(code, _FRAMES))
        whole = tf.equal(code, _SCAN)
        out_of_place = tf.equal(code, _START) | tf.equal(code, _END)
        broken = out_of_place | (has_length & (length < 2))
        frame = tf.where(is_frame & (frame == 0), position, frame)
        ahead = tf.where(has_length, length + 2, size_of_other)
        return count + 1, tf.where(whole, position, position + ahead), frame, whole, broken

    start = tuple(map(tf.convert_to_tensor, (0, 2, 0, False, False)))
    count, scan, frame, whole, broken = tf.while_loop(goes_on, step, start)
    (code,) = tf.unstack(_numbers(file, frame, 1))
    height, width = tf.unstack(_numbers(file, frame + 5, 2))  # after the length and the precision
    components = tf.io.decode_raw(tf.strings.substr(file, frame + 9, 1), tf.uint8)[0]
    return JpegHeader(
        whole=whole & (frame > 0) & (frame + 10 <= size),
        too_many=~whole & ~broken & (count >= MAX_JPEG_SEGMENTS),
        arithmetic=tf.reduce_any(tf.equal(code, _ARITHMETIC)),
        height=tf.cast(height, tf.int64),
        width=tf.cast(width, tf.int64),
        components=tf.cast(components, tf.int64),
        scan=scan,
    )


def has_too_many_scans(file: tf.Tensor, header: JpegHeader) -> tf.Tensor:
    """Tells whether the scans of a JPEG cost more than the limits, () bool.

    The bytes that begin a scan cannot stand within the data of one, so that no scan is missed;
    images that a camera appends to the file count too.

    Args:
        file: () string.
        header: JpegHeader, whole.
    """
    size = tf.strings.length(file)

    def goes_on(position, scans):
        return (position < size) & (scans <= MAX_JPEG_SCANS)

    def step(position, scans):
        band = tf.strings.substr(file, position, _BAND + 1)
        band = tf.io.decode_raw(band, tf.uint8)
        found = tf.equal(band[:-1], _SCAN >> 8) & tf.equal(band[1:], _SCAN & 0xFF)
        return position + _BAND, scans + tf.math.count_nonzero(found)

    start = header.scan, tf.zeros((), tf.int64)
    _, scans = tf.while_loop(goes_on, step, start)
    pixels = header.height * header.width
    return (scans > MAX_JPEG_SCANS) | (scans * pixels > MAX_JPEG_SCAN_PIXELS)


def _numbers(file, position, count):
    """(count,) int32, of two bytes each."""
    data = tf.io.decode_raw(
        tf.strings.substr(file, position, 2 * count), tf.uint16, little_endian=False
    )
    return tf.ensure_shape(tf.cast(data, tf.int32), (count,))
