"""Augmented images with their labels, for training a classifier.

Shapes: B batch, S side, C channels, K classes.
"""

import dataclasses

import tensorflow as tf

from sit_keras.augment import operations, rand_augment, sampling
from sit_keras.augment.crops import CROP_NUMBERS, draw_crops, random_crops
from sit_keras.augment.random import normal, random_bits, uniform
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import map_plainly, step_parts, step_rows

# Independent streams of random numbers within a step.
_CROP, _ROUNDS, _ERASE, _NOISE, _MIX = range(16, 21)


@dataclasses.dataclass(frozen=True)
class AugmentedViews:
    """Makes one augmented view of each image: crop, flip, RandAugment, erasing.

    Args:
        image_size: int. Side S of the views in pixels.
        config: FinetuneConfig.
        preprocessing: PreprocessingConfig. How the views are normalised.
    """

    image_size: int
    config: FinetuneConfig
    preprocessing: PreprocessingConfig = PreprocessingConfig()

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.config.seed

    def crop(self, images: tf.Tensor, step: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Returns random crops (B, S, S, C) float32 in [0, 1] of images (B, H, W, C) uint8."""
        uniforms = self._uniforms(step, _CROP, positions, CROP_NUMBERS)[:, None]
        pixels = operations.unit_pixels(images)
        return random_crops(pixels, uniforms, self.config.views, self.image_size)[:, 0]

    def draw_crops(
        self, height: tf.Tensor, width: tf.Tensor, step: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the box (1, 4) of `crop` at a position in the batch, and its flip (1,)."""
        uniforms = self._uniforms(step, _CROP, tf.reshape(position, (1,)), CROP_NUMBERS)
        return draw_crops(uniforms, height, width, self.config.views)

    def finish(self, crops: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Returns views (B, S, S, C) float32, normalised, of crops (B, S, S, C) in [0, 1]."""
        x, config, channels = crops, self.config, len(self.preprocessing.mean)
        positions = tf.range(tf.shape(x)[0])
        count = config.rand_augment * rand_augment.ROUND_NUMBERS
        uniforms = self._uniforms(step, _ROUNDS, positions, count)
        for part in tf.split(uniforms, config.rand_augment, axis=1) if count else ():
            operation, level = rand_augment.draw_round(part, config.magnitude)
            x = rand_augment.apply_round(x, operation, level, self.preprocessing.mean)
        x = operations.normalize(x, self.preprocessing.mean, self.preprocessing.std)
        if config.erasing > 0:
            uniforms = self._uniforms(step, _ERASE, positions, sampling.ERASE_NUMBERS)
            box, active = sampling.erased_box(uniforms, self.image_size, config.erasing)
            pixels = self.image_size**2 * channels
            bits = random_bits(self.seed, step, _NOISE, positions, (pixels + 1) // 2)
            noise = tf.reshape(normal(bits)[:, :pixels], tf.shape(x))
            x = operations.fill_blocks(x, box[:, None], active[:, None], noise)
        return tf.ensure_shape(x, (None, self.image_size, self.image_size, channels))

    def mix(
        self, images: tf.Tensor, targets: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixes a batch by mixup or CutMix, whichever is drawn, and smooths the targets.

        Args:
            images: (B, S, S, C) float32.
            targets: (B, K) float32, one-hot.
            step: scalar int64.
        """
        config, smoothing = self.config, self.config.label_smoothing
        targets = (1.0 - smoothing) * targets + smoothing / targets.shape[1]
        if not (config.mixup or config.cutmix):
            return images, targets
        bits = random_bits(self.seed, step, _MIX, tf.range(1), 5)[0]
        coin, *centre = tf.unstack(uniform(bits[:3]))
        cuts = coin < (0.5 if config.mixup and config.cutmix else float(config.cutmix > 0))
        concentration = tf.where(cuts, float(config.cutmix), float(config.mixup))
        seed = tf.bitcast(bits[3:], tf.int32)
        gammas = tf.random.stateless_gamma((2,), seed, concentration)
        share = gammas[0] / tf.reduce_sum(gammas)  # of the Beta distribution
        weight = tf.where(cuts, 1.0, share)
        box = sampling.cut_box(tf.stack(centre), self.image_size, tf.where(cuts, share, 1.0))
        return operations.mix(images, targets, weight, box)

    def _uniforms(self, step, stream, positions, count):
        return uniform(random_bits(self.seed, step, stream, positions, count))


def labelled_views(
    images: ImageSet, views: AugmentedViews, batch_size: int, start_step: int, end_step: int
) -> tf.data.Dataset:
    """Returns the training batches of steps `start_step` to `end_step`, as of `step_images`.

    Args:
        images: ImageSet, all labelled.
        views: AugmentedViews.
        batch_size, start_step, end_step: as for `step_images`.

    Returns:
        A dataset of pairs: views (B, S, S, C) and targets (B, K), float32 both.
    """
    with tf.device("CPU:0"):  # as the images
        labels, num_classes = tf.constant(images.class_labels()), len(images.class_names)
    rows_of = step_rows(len(images), batch_size, views.seed)
    parts = step_parts(images, views, batch_size, start_step, end_step)
    positions = tf.range(batch_size)

    def augment(step, first, items):
        if images.in_memory:
            crops = views.crop(items, step, positions)
        else:
            crops = operations.unit_pixels(items[:, 0])
        targets = tf.one_hot(tf.gather(labels, rows_of(step, positions)), num_classes)  # (B, K)
        return views.mix(views.finish(crops, step), targets, step)

    return map_plainly(parts, augment).prefetch(tf.data.AUTOTUNE)
