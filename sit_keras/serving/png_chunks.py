"""The part of a PNG file that its pixels are made of, found in the graph before it is decoded.

A decoder reads the texts, profiles and unknown chunks of a file too, and unpacks some of them: a
file of 1.5 MiB can hold gigabytes. None of them changes a pixel here. It also unpacks the image
data to their end, wherever the image ends in them. PNG specification, sections 5 and 10.
"""

import typing

import tensorflow as tf

from sit_keras.serving.limits import MAX_PNG_CHUNKS, MAX_PNG_DATA

SIGNATURE = bytes([0x89, 0x50, 0x4E, 0x47, 13, 10, 26, 10])
TOO_MANY_CHUNKS = f"too many chunks: at most {MAX_PNG_CHUNKS} of a PNG"
TOO_MUCH_DATA = f"too long: at most {MAX_PNG_DATA} bytes of image data in a PNG"

_AROUND = 12  # bytes of a chunk's length, type and checksum
_HEADER = bytes([0, 0, 0, 13]) + b"IHDR"  # the chunk that must come first, and its length
_END = bytes([0, 0, 0, 0]) + b"IEND" + bytes([0xAE, 0x42, 0x60, 0x82])
# IHDR, a palette of 256 colours and its transparency take 1,073 bytes.
_MOST_BEFORE_DATA = 2048
# No byte of compressed data gives more than this, and the pieces that they are unpacked in give
# together no more than that.
_MOST_RATIO, _MOST_UNPACKED = 1032, 140 << 20
_CHANNELS = [1, 0, 3, 1, 2, 0, 4]  # by the type of colour


def _number(kind: bytes) -> int:
    return int.from_bytes(kind, "big")


_DATA = _number(b"IDAT")
_KEPT = [_number(kind) for kind in (b"IHDR", b"PLTE", b"tRNS")]
_ANCILLARY = 0x20000000  # the bit that makes the first letter of a type a small one


class PngHeader(typing.NamedTuple):
    """The first chunk of a PNG, all of them () tensors.

    Args:
        comes_first: bool. It is where it must be.
        width: int64, pixels.
        height: int64, pixels.
        most_data: int64. The bytes of the image data at most, unpacked.
    """

    comes_first: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    most_data: tf.Tensor


def png_header(file: tf.Tensor) -> PngHeader:
    """Reads the header of a PNG.

    Args:
        file: () string, which begins as a PNG.
    """
    comes_first = tf.equal(tf.strings.substr(file, len(SIGNATURE), len(_HEADER)), _HEADER)
    start = len(SIGNATURE) + len(_HEADER)
    width, height = (tf.cast(side, tf.int64) for side in _two_numbers(file, start))
    form = tf.io.decode_raw(tf.strings.substr(file, start + 8, 2), tf.uint8)
    depth, colour = tf.unstack(tf.cast(tf.ensure_shape(form, (2,)), tf.int64))
    channels = tf.gather(tf.constant(_CHANNELS, tf.int64), tf.minimum(colour, 6))
    # A byte of filter a row, and twice that where the rows come in seven passes.
    raw = height * (width * channels * depth // 8 + 5)
    return PngHeader(comes_first, width, height, raw + raw // 7 + 1024)


class PngParts(typing.NamedTuple):
    """What is found in a PNG, all of them () tensors.

    Args:
        file: string. The file with the chunks IHDR, PLTE, tRNS, IDAT and IEND alone.
        data: string. The compressed image data of all its chunks.
        is_whole: bool. Whether its chunks are.
        has_too_many: bool. Whether there are more chunks than the limit.
    """

    file: tf.Tensor
    data: tf.Tensor
    is_whole: tf.Tensor
    has_too_many: tf.Tensor


def image_chunks(file: tf.Tensor) -> PngParts:
    """Leaves out of a PNG all that its pixels are not made of.

    What follows the image data is not looked at.

    Args:
        file: () string, which begins as a PNG.
    """
    size = tf.strings.length(file)

    def goes_on(count, position, before, first, whole, broken, pieces):
        there = position + _AROUND <= size
        return ~whole & ~broken & there & (count < MAX_PNG_CHUNKS)

    def step(count, position, before, first, whole, broken, pieces):
        length, kind = _two_numbers(file, position)
        fits = (length >= 0) & (length <= size - position - _AROUND)
        is_data, is_kept = tf.equal(kind, _DATA), tf.reduce_any(tf.equal(kind, _KEPT))
        is_ancillary = tf.not_equal(tf.bitwise.bitwise_and(kind, _ANCILLARY), 0)
        whole = (first > 0) & ~is_data  # the image data are in one piece
        kept = tf.where(is_kept & fits & ~whole, length + _AROUND, 0)
        before += tf.strings.substr(file, position, tf.minimum(kept, _MOST_BEFORE_DATA + 1))
        known = fits & (is_data | is_kept | is_ancillary)
        broken = ~whole & (~known | (tf.strings.length(before) > _MOST_BEFORE_DATA))
        first = tf.where(is_data & (first == 0), position, first)
        piece = tf.where(is_data & fits, [position + _AROUND - 4, length], [0, 0])
        pieces = pieces.write(count, piece)
        position = tf.where(whole | broken, position, position + _AROUND + length)
        return count + 1, position, before, first, whole, broken, pieces

    nothing = tf.constant(0), tf.constant(0)
    pieces = tf.TensorArray(tf.int32, 1, dynamic_size=True, element_shape=(2,)).write(0, nothing)
    start = (0, len(SIGNATURE), tf.constant(b""), 0, False, False)
    start = *map(tf.convert_to_tensor, start), pieces
    count, end, before, first, whole, broken, pieces = tf.while_loop(goes_on, step, start)
    chunks = tf.strings.substr(file, first, end - first)
    starts, lengths = tf.unstack(pieces.stack(), axis=1)
    data = tf.strings.reduce_join(tf.strings.substr(file, starts, lengths))
    return PngParts(
        file=tf.strings.join([SIGNATURE, before, chunks, _END]),
        data=data,
        is_whole=whole,
        has_too_many=~whole & ~broken & (count >= MAX_PNG_CHUNKS),
    )


def goes_on_behind_the_image(data: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
    """Says whether image data unpack to more than the image takes.

    They are unpacked from the beginning again and again, each time a little further, so that a
    thousandfold of what is behind the image is never unpacked.

    Args:
        data: () string, compressed.
        most: () int64. The bytes that the image takes at most.

    Returns:
        () bool.
    """
    size = tf.strings.length(data)

    def goes_on(taken, unpacked):
        return (taken < size) & (unpacked <= most)

    def step(taken, unpacked):
        further = tf.maximum((_MOST_UNPACKED - unpacked) // _MOST_RATIO, 1)
        taken = tf.minimum(taken + tf.cast(further, tf.int32), size)
        pixels = tf.io.decode_compressed(tf.strings.substr(data, 0, taken), "ZLIB")
        return taken, tf.cast(tf.strings.length(pixels), tf.int64)

    nothing = tf.constant(0), tf.constant(0, tf.int64)
    _, unpacked = tf.while_loop(goes_on, step, nothing, parallel_iterations=1)
    return unpacked > most


def _two_numbers(file, position):
    """Two () int32 of four bytes each, the highest first."""
    numbers = tf.io.decode_raw(tf.strings.substr(file, position, 8), tf.int32, little_endian=False)
    return tf.unstack(tf.ensure_shape(numbers, (2,)))
