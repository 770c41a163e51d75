"""Image files to pixels inside of a graph that strangers send bytes to.

A file that is refused or broken is reported, and the others of its batch are served. What a file
will cost is read from its headers before anything is decoded.

Shapes: B files, S side of the result.
"""

import typing

import tensorflow as tf

from sit_keras.serving import jpeg_scans, png_chunks
from sit_keras.serving.limits import (
    MAX_BYTES,
    MAX_IMAGES,
    MAX_JPEG_PIXELS,
    MAX_JPEG_SAMPLES,
    MAX_PNG_DATA,
    MAX_PNG_PIXELS,
    MAX_PNG_UNPACKED,
)

# Files of one request at a time.
PARALLEL = 4

_FRACTIONS = (1, 2, 4, 8)

DAMAGED = "damaged: the file cannot be decoded"
FOREIGN = "neither JPEG nor PNG"
TOO_LONG = f"too long: at most {MAX_BYTES} bytes"
TOO_LARGE = (
    f"too large: at most {MAX_JPEG_PIXELS} pixels of a JPEG ({MAX_JPEG_SAMPLES // 4} in CMYK), "
    f"{MAX_PNG_PIXELS} of a PNG (fewer of 16 bits)"
)


def decode_images(
    files: tf.Tensor,
    size: int,
    enough: int,
    view: typing.Callable[[tf.Tensor], tf.Tensor],
    fit: str = "crop",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes JPEG and PNG files of any mode, transparency laid over white.

    The EXIF orientation is not looked at: turn photos upright before sending them. A JPEG that is
    damaged within, or whose header promises more than it holds, decodes to wrong pixels, as it does
    everywhere else.

    Args:
        files: (B,) string.
        size: int. S in pixels.
        enough: int. A side in pixels that suffices, the short one for `crop` and the long one for
            `pad`; larger files are reduced by a whole factor first, but never below it.
        view: makes (1, H, W, 3) float32 in [0, 1] to (1, S, S, 3).
        fit: str. What `view` takes: `crop`, the centre alone, or `pad`, the whole image.

    Returns:
        pixels (B, S, S, 3) float32, zero where a file was refused, and reasons (B,) string, empty
        where it was not.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, if there are more files than the limit.
    """

    wanted = _Wanted(enough, fit == "pad")

    def one(index, file):
        pixels, reason = _decode(file, wanted)
        return index, view(pixels[None])[0], reason

    with tf.control_dependencies([refuse_more_images(files)]):
        files = tf.identity(files)
    count = tf.shape(files, tf.int64)[0]
    decoded = tf.data.Dataset.from_tensor_slices((tf.range(count), files))
    # An error of a decoder drops its file alone; in a plain graph it would fail the whole batch.
    plain = tf.autograph.experimental.do_not_convert(one)
    decoded = decoded.map(plain, PARALLEL).ignore_errors()
    last = (count[None], tf.zeros((1, size, size, 3)), tf.constant([""]))  # so that there is one
    decoded = decoded.concatenate(tf.data.Dataset.from_tensor_slices(last))
    rows, pixels, reasons = decoded.batch(count + 1).get_single_element()
    pixels = tf.scatter_nd(rows[:, None], pixels, tf.stack([count + 1, size, size, 3]))[:-1]
    broken = tf.fill((count + 1,), DAMAGED)
    reasons = tf.tensor_scatter_nd_update(broken, rows[:, None], reasons)[:-1]
    return tf.ensure_shape(pixels, (None, size, size, 3)), reasons


def refuse_more_images(batch: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails, before anything is computed, where a batch is too large.

    Args:
        batch: images or files, (B, ...).
    """
    count = tf.shape(batch)[0]
    received = tf.strings.as_string(count)
    text = tf.strings.join([f"At most {MAX_IMAGES} images a request; received ", received])
    return tf.debugging.Assert(count <= MAX_IMAGES, [text])


def _decode(file: tf.Tensor, wanted: "_Wanted") -> tuple[tf.Tensor, tf.Tensor]:
    """One file to ((H, W, 3) float32 in [0, 1], reason), or raises where a decoder does."""

    def refuse(reason):
        return lambda: (tf.zeros((1, 1, 3)), tf.constant(reason))

    is_png, is_jpeg = (
        tf.equal(tf.strings.substr(file, 0, len(kind.SIGNATURE)), kind.SIGNATURE)
        for kind in (png_chunks, jpeg_scans)
    )
    return tf.case(
        [
            (tf.strings.length(file) > MAX_BYTES, refuse(TOO_LONG)),
            (is_png, lambda: _decode_png(file, wanted, refuse)),
            (is_jpeg, lambda: _decode_jpeg(file, wanted, refuse)),
        ],
        default=refuse(FOREIGN),
    )


def _decode_png(file, wanted, refuse):
    header = png_chunks.png_header(file)

    def walk():
        parts = png_chunks.image_chunks(file)

        def unpack():
            too_much = png_chunks.goes_on_behind_the_image(parts.data, header.most_data)
            return tf.cond(too_much, refuse(DAMAGED), accept)

        def accept():
            pixels = wanted.part(tf.io.decode_png(parts.file, channels=4))
            # Only a file that is transparent pays for a whole image of floats.
            solid = tf.reduce_min(pixels[..., 3]) == 255
            pixels = tf.cond(solid, lambda: pixels[..., :3], lambda: _over_white(pixels))
            return wanted.reduced(pixels), tf.constant("")

        too_long = tf.strings.length(parts.data) > MAX_PNG_DATA
        reasons = [
            (parts.has_too_many, refuse(png_chunks.TOO_MANY_CHUNKS)),
            (~parts.is_whole, refuse(DAMAGED)),
            (too_long, refuse(png_chunks.TOO_MUCH_DATA)),
        ]
        return tf.case(reasons, default=unpack)

    too_large = (header.width * header.height > MAX_PNG_PIXELS) | (
        header.most_data > MAX_PNG_UNPACKED
    )
    return tf.case(
        [(~header.comes_first, refuse(DAMAGED)), (too_large, refuse(TOO_LARGE))], default=walk
    )


def _over_white(pixels):
    """(H, W, 4) uint8 with alpha -> (H, W, 3) uint8."""
    alpha = tf.cast(pixels[..., 3:], tf.float16) / 255  # half the memory, right to one grey value
    colour = tf.cast(pixels[..., :3], tf.float16)
    return tf.cast(tf.round(255 + alpha * (colour - 255)), tf.uint8)


def _decode_jpeg(file, wanted, refuse):
    header = jpeg_scans.jpeg_header(file)
    height, width = header.height, header.width
    too_large = (height * width > MAX_JPEG_PIXELS) | (
        height * width * header.components > MAX_JPEG_SAMPLES
    )

    def accept():
        # The smallest fraction that leaves the side long enough.
        share = wanted.side(height, width) // wanted.enough
        which = tf.reduce_sum(tf.cast(share >= _FRACTIONS[1:], tf.int32))
        decoders = [
            lambda fraction=fraction: tf.io.decode_jpeg(
                file, channels=3, ratio=fraction, dct_method="INTEGER_ACCURATE"
            )
            for fraction in _FRACTIONS
        ]
        return wanted.reduced(wanted.part(tf.switch_case(which, decoders))), tf.constant("")

    def count_scans():
        too_many = jpeg_scans.has_too_many_scans(file, header)
        return tf.cond(too_many, refuse(jpeg_scans.TOO_MANY_SCANS), accept)

    return tf.case(
        [
            (header.too_many, refuse(jpeg_scans.TOO_MANY_SEGMENTS)),
            (~header.whole, refuse(DAMAGED)),
            (header.arithmetic, refuse(jpeg_scans.ARITHMETIC)),
            (too_large, refuse(TOO_LARGE)),
        ],
        default=count_scans,
    )


class _Wanted(typing.NamedTuple):
    """How much of a picture, and in which size.

    Args:
        enough: int. Pixels of the side that counts.
        is_whole: bool. All of the picture, whose long side counts, or its middle square.
    """

    enough: int
    is_whole: bool

    def side(self, height, width):
        """Returns the side that counts."""
        return tf.maximum(height, width) if self.is_whole else tf.minimum(height, width)

    def part(self, pixels):
        """Returns what is needed of pixels (H, W, C): all, or nearly the middle square.

        Both sides keep their parity, so that the centre stays where it was.
        """
        if self.is_whole:
            return pixels
        height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
        short = tf.minimum(height, width)
        tall, wide = (short + (side - short) % 2 for side in (height, width))
        top, left = (height - tall) // 2, (width - wide) // 2
        return pixels[top : top + tall, left : left + wide]

    def reduced(self, pixels):
        """(H, W, 3) uint8 -> float32 in [0, 1], means of blocks where it is large enough."""
        height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
        factor = tf.maximum(self.side(height, width) // self.enough, 1)
        if self.is_whole:  # no border is cut off, and a short side does not vanish
            pixels = pixels[None]
            height, width = (tf.maximum((n + factor // 2) // factor, 1) for n in (height, width))
        else:
            height, width = height // factor, width // factor
            pixels = pixels[None, : height * factor, : width * factor]
        means = tf.raw_ops.ResizeArea(images=pixels, size=(height, width))  # reads uint8 as it is
        return tf.ensure_shape(means[0] / 255.0, (None, None, 3))
