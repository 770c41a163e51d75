"""Two views of each image: draw the parameters from (seed, step, position), then apply them.

A batch of views is a pure function of the seed, the step and the images, so any view can be drawn
again and a resumed run sees the same batches.

Shapes: B batch, V = 2 views, S side, H W C image.
"""

import abc
import dataclasses

import tensorflow as tf

from sit_keras.augment import operations, pretext
from sit_keras.augment.pretext import NUM_VIEWS
from sit_keras.config.settings import CorruptionConfig, ViewConfig

# Independent streams of random numbers within a step.
_CROP, _LOOK, _CORRUPT, _NOISE = range(4)


class CroppedViews(abc.ABC):
    """Random crops of the images of a batch, which a subclass makes into views.

    A subclass has a `size` (the side S in pixels), `views` (a ViewConfig), a `seed`, the number of
    crops that an image gives (`num_views`, V), and finishes them.
    """

    size: int
    views: ViewConfig
    seed: int
    num_views: int

    def __call__(self, images: tf.Tensor, step: tf.Tensor):
        """Returns what `finish` makes of the crops of a batch.

        Args:
            images: (B, H, W, 3) uint8, or float in [0, 1].
            step: scalar int64. The number of the batch.
        """
        return self.finish(self.crop(images, step), step)

    def crop(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Returns the random crops (B, V, S, S, 3) of images (B, H, W, 3) of one size."""
        uniforms = self._crop_uniforms(tf.shape(images)[0], step)
        return self._crop(unit_pixels(images), uniforms)

    def crop_one(
        self, image: tf.Tensor, step: tf.Tensor, position: tf.Tensor, batch_size: int
    ) -> tf.Tensor:
        """Returns the random crops (V, S, S, 3) of one image (H, W, 3) of a batch of mixed sizes.

        They are those that `crop` draws at this position of a batch of `batch_size`.
        """
        uniforms = self._crop_uniforms(batch_size, step)[position]
        return self._crop(unit_pixels(image)[None], uniforms[None])[0]

    @abc.abstractmethod
    def finish(self, crops: tf.Tensor, step: tf.Tensor):
        """Makes crops (B, V, S, S, 3) in [0, 1] into what the network is given."""

    def _crop(self, images, uniforms):
        return pretext.crop(images, uniforms, self.size, self.views)

    def _crop_uniforms(self, batch_size, step):
        return self.uniforms(step, _CROP, (batch_size, self.num_views, pretext.CROP_NUMBERS))

    def uniforms(self, step, stream, shape):
        """Returns numbers in [0, 1) that belong to the seed, the step and the stream."""
        return tf.random.stateless_uniform(shape, self.stream(step, stream), alg="philox")

    def stream(self, step, stream):
        """Returns the seed (2,) of a stream of a step."""
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        return tf.random.experimental.stateless_fold_in(seed, stream)


@dataclasses.dataclass(frozen=True)
class TwoViews(CroppedViews):
    """Makes the two corrupted and clean views of a batch, and their rotation labels.

    Flip comes before the rotation and the rotation last: the other way round a flipped quarter turn
    cannot be told from the opposite one, as the paper notes and its first release overlooked.

    Args:
        size: int. Side S of the views in pixels.
        views: ViewConfig.
        corruption: CorruptionConfig.
        seed: int.
    """

    size: int
    views: ViewConfig = ViewConfig()
    corruption: CorruptionConfig = CorruptionConfig()
    seed: int = 0

    num_views = NUM_VIEWS

    def finish(self, crops: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Jitters, normalises, rotates and corrupts crops.

        Args:
            crops: (B, 2, S, S, 3) float32 in [0, 1].
            step: scalar int64.

        Returns:
            A dict: `corrupted` and `clean` (B, 2, S, S, 3) float32 normalised, `rotation` (B, 2)
            int32, quarter turns clockwise.
        """
        batch = tf.shape(crops)[0]
        uniforms = self.uniforms(step, _LOOK, (batch * NUM_VIEWS, pretext.LOOK_NUMBERS))
        x = tf.reshape(crops, (batch * NUM_VIEWS, self.size, self.size, 3))
        clean, rotation = pretext.look(x, uniforms, self.views)
        corrupted = self.corrupt(clean, step)
        shape = (batch, NUM_VIEWS, self.size, self.size, 3)
        return {
            "corrupted": tf.reshape(corrupted, shape),
            "clean": tf.reshape(clean, shape),
            "rotation": tf.reshape(rotation, (batch, NUM_VIEWS)),
        }

    def corrupt(self, clean: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Corrupts flattened views (B * 2, S, S, 3) as a step does."""
        shape = (tf.shape(clean)[0], pretext.CORRUPTION_NUMBERS)
        uniforms = self.uniforms(step, _CORRUPT, shape)
        noise = tf.random.stateless_normal(tf.shape(clean), self.stream(step, _NOISE), alg="philox")
        return pretext.corrupt(clean, uniforms, noise, self.corruption)


def unit_pixels(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 or float images as float32 in [0, 1]; refuses floats beyond that range."""
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    message = "Float images must lie in [0, 1]: divide by 255, or pass uint8."
    with tf.control_dependencies(
        [
            tf.debugging.assert_less_equal(images, tf.cast(1.001, images.dtype), message),
            tf.debugging.assert_greater_equal(images, tf.cast(-0.001, images.dtype), message),
        ]
    ):
        return tf.cast(images, tf.float32)


def centre_view(images: tf.Tensor, size: int, eval_crop: float) -> tf.Tensor:
    """Returns the centre crops of evaluation, resized.

    Args:
        images: (B, H, W, 3) float32 in [0, 1].
        size: int. Side S of the result in pixels.
        eval_crop: float. Share of the image's short side that is kept (0.875 = 224 / 256).

    Returns:
        (B, S, S, 3) float32 in [0, 1].
    """
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    side = tf.cast(tf.round(tf.cast(tf.minimum(height, width), tf.float32) * eval_crop), tf.int32)
    top, left = (height - side) // 2, (width - side) // 2
    # Cut out first, so that the products of the resizing are no larger than they need be.
    square = images[:, top : top + side, left : left + side]
    whole = tf.cast(tf.stack([0, 0, side, side]), tf.float32)
    boxes = tf.tile(whole[None, None], (batch, 1, 1))  # (B, 1, 4)
    return operations.resized_crop(square, boxes, tf.zeros((batch, 1), tf.bool), size)[:, 0]
