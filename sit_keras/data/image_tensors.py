"""Image files as tensors inside of tf.data, decoded at the size that is needed of them.

A JPEG of the common kind is decoded by TensorFlow, at 1/2, 1/4 or 1/8 of its size where that is
enough; Pillow reads all other files. Shapes: H W image, C channels.
"""

import os
import typing

import numpy as np
import tensorflow as tf

from sit_keras.data.channels import with_channels
from sit_keras.data.decoding_budget import BUDGET
from sit_keras.data.jpeg_header import SIGNATURE, common_jpeg
from sit_keras.data.orientation import set_upright
from sit_keras.data.reading import read_image
from sit_keras.data.record_address import RecordAddress

# A crop of 8 % of the area is 28 % of the side, so what Pillow reads is read at up to four times
# the size wanted and no larger: a photo of 12 megapixels would cost a hundred times the work.
_READ_SCALE = 4
_RATIOS = (8, 4, 2, 1)
_MAX_BYTES = 64 * 2**20  # of a file that is held whole in memory
_BYTES_PER_PIXEL = 6  # decoded, and once more when it is set upright


class Opened(typing.NamedTuple):
    """A file whose size is known.

    Args:
        name: () string, its path.
        content: () string, of a JPEG that is not decoded yet; empty otherwise.
        pixels: (H, W, C) uint8, of a file that is decoded; without rows otherwise.
        size: (2,) int32. Height and width of the upright image.
    """

    name: tf.Tensor
    content: tf.Tensor
    pixels: tf.Tensor
    size: tf.Tensor


def open_image(
    name: tf.Tensor,
    image_size: int,
    value_range: tuple[float, float] | None,
    channels: int = 3,
) -> Opened:
    """Opens a file for crops of `image_size` pixels.

    Args:
        name: () string, its path.
        image_size: int.
        value_range, channels: as for `sit_keras.data.reading.read_image`.
    """

    def look(name):
        name = os.fsdecode(name)
        content = _jpeg_content(name) if channels in (1, 3) else b""
        header = common_jpeg(content)
        if header is not None:
            return (
                content,
                np.zeros((0, 0, channels), np.uint8),
                np.array(header.upright_size, np.int32),
            )
        pixels = read_image(name, _READ_SCALE * image_size, value_range, channels)
        return b"", pixels, np.array(pixels.shape[:2], np.int32)

    content, pixels, size = tf.numpy_function(look, [name], (tf.string, tf.uint8, tf.int32))
    return Opened(
        name,
        tf.ensure_shape(content, ()),
        tf.ensure_shape(pixels, (None, None, channels)),
        tf.ensure_shape(size, (2,)),
    )


def decode_image(opened: Opened, excess: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes an opened file.

    Args:
        opened: Opened.
        excess: () float32. How many times smaller than it is the image may be decoded.

    Returns:
        pixels: (H, W, C) uint8, upright.
        scale: (2,) float32, of the height and the width, such as 0.5 at half the size.
    """

    channels = opened.pixels.shape[-1]

    def decode():
        pixels, scale = tf.numpy_function(
            lambda *inputs: _decoded(*inputs, channels),
            [opened.name, opened.content, excess],
            (tf.uint8, tf.float32),
        )
        return tf.ensure_shape(pixels, (None, None, channels)), tf.ensure_shape(scale, (2,))

    return tf.cond(
        tf.strings.length(opened.content) > 0, decode, lambda: (opened.pixels, tf.ones((2,)))
    )


def _decoded(name, content, excess, channels):
    header = common_jpeg(content)
    ratio = next((ratio for ratio in _RATIOS if ratio <= excess), 1)
    cost = _BYTES_PER_PIXEL * header.height * header.width // ratio**2
    try:
        with BUDGET.share(cost), tf.device("CPU:0"):
            pixels = tf.raw_ops.DecodeJpeg(
                contents=content, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
            )
            pixels = set_upright(np.asarray(pixels), header.orientation)
        return with_channels(pixels, channels), np.full(2, 1 / ratio, np.float32)
    except tf.errors.InvalidArgumentError:  # Pillow reads it, or says what is wrong and where
        size = np.array(header.upright_size)
        pixels = read_image(os.fsdecode(name), enough=int(min(size) // ratio), channels=channels)
        return pixels, (pixels.shape[:2] / size).astype(np.float32)


def _jpeg_content(name: str) -> bytes:
    """Returns the content of a JPEG, or of another file nothing or its first bytes."""
    address = RecordAddress.parse(name)
    if address is not None:
        return address.read()
    try:
        with open(name, "rb") as file:
            start = file.read(len(SIGNATURE))
            if start != SIGNATURE or os.fstat(file.fileno()).st_size > _MAX_BYTES:
                return start
            return start + file.read()
    except OSError:
        return b""  # Pillow's way names the file
