"""Which images of floats a served model takes.

Shapes: B images, H W of any size.
"""

import tensorflow as tf

from sit_keras.serving.decoding import refuse_more_images
from sit_keras.serving.limits import MAX_IMAGE_PIXELS

# What rounding and resizing may leave outside of [0, 1].
TOLERANCE = 0.01

EMPTY = "no pixels: the height or the width is 0"
NOT_FINITE = "values that are NaN or infinite; expected numbers in [0, 1]"


def check_images(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the images that a model was not trained for, without an error for the others.

    Args:
        images: (B, H, W, C) float32.

    Returns:
        the images, whether each is as it must be (B,) bool, and reasons (B,) string, empty where
        it is.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, if there are more images, or more pixels of
            all together, than the limits.
    """
    with tf.control_dependencies([refuse_more_images(images), _refuse_more_pixels(images)]):
        images = tf.identity(images)
    shape = tf.shape(images)
    there = tf.fill(shape[:1], shape[1] * shape[2] > 0)
    finite = tf.reduce_all(tf.math.is_finite(images), axis=(1, 2, 3))
    low, high = (reduce(images, axis=(1, 2, 3)) for reduce in (tf.reduce_min, tf.reduce_max))
    inside = (low >= -TOLERANCE) & (high <= 1 + TOLERANCE)
    lowest, highest = (tf.strings.as_string(end, precision=3, shortest=True) for end in (low, high))
    outside = tf.strings.join([
        "values from ", lowest, " to ", highest,
        f"; expected [0, 1], at most {TOLERANCE} outside: divide 8-bit pixels by 255",
    ])  # fmt: skip
    reasons = tf.where(inside, "", outside)
    reasons = tf.where(finite, reasons, NOT_FINITE)
    reasons = tf.where(there, reasons, EMPTY)
    return images, there & finite & inside, reasons


def are_in_range(images: tf.Tensor) -> tf.Tensor:
    """Returns whether each of the images (B, H, W, C) is finite and in [0, 1], as (B,) bool.

    It is what `check_images` finds, without text, and without an operation that runtimes lack.
    """
    return tf.reduce_all((images >= -TOLERANCE) & (images <= 1 + TOLERANCE), axis=(1, 2, 3))


def _refuse_more_pixels(images):
    pixels = tf.reduce_prod(tf.shape(images, tf.int64)[:3])
    text = f"At most {MAX_IMAGE_PIXELS} pixels of all images of a request together; received "
    text = tf.strings.join([text, tf.strings.as_string(pixels)])
    return tf.debugging.Assert(pixels <= MAX_IMAGE_PIXELS, [text])
