"""Augmented images with their labels, for training a classifier.

Shapes: B batch, S side, K classes.
"""

import dataclasses
import typing

import tensorflow as tf

from sit_keras.augment import operations, rand_augment, sampling
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.settings import ViewConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import map_plainly, step_rows, step_views
from sit_keras.data.views import CroppedViews

# Independent streams of random numbers within a step, beside the crops'.
_ROUNDS, _ERASE, _NOISE, _MIX, _BETA = range(10, 15)


@dataclasses.dataclass(frozen=True)
class AugmentedViews(CroppedViews):
    """Makes one augmented view of each image: crop, flip, RandAugment, erasing.

    Args:
        size: int. Side S of the views in pixels.
        config: FinetuneConfig.
    """

    size: int
    config: FinetuneConfig

    num_views: typing.ClassVar[int] = 1

    @property
    def views(self) -> ViewConfig:
        """How crops are drawn."""
        return self.config.views

    @property
    def seed(self) -> int:
        """Of everything drawn."""
        return self.config.seed

    def finish(self, crops: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Returns views (B, S, S, 3) float32, normalised, of crops (B, 1, S, S, 3) in [0, 1]."""
        x, config = crops[:, 0], self.config
        batch = tf.shape(x)[0]
        shape = (batch, config.rand_augment, rand_augment.ROUND_NUMBERS)
        uniforms = self.uniforms(step, _ROUNDS, shape)
        for turn in range(config.rand_augment):
            drawn = rand_augment.draw_round(uniforms[:, turn], config.magnitude)
            x = rand_augment.apply_round(x, *drawn)
        x = operations.normalize(x)
        if config.erasing > 0:
            uniforms = self.uniforms(step, _ERASE, (batch, sampling.ERASE_NUMBERS))
            box, active = sampling.erased_box(uniforms, self.size, config.erasing)
            noise = tf.random.stateless_normal(tf.shape(x), self.stream(step, _NOISE), alg="philox")
            x = operations.fill_blocks(x, box[:, None], active[:, None], noise)
        return tf.ensure_shape(x, (None, self.size, self.size, 3))

    def mix(
        self, images: tf.Tensor, targets: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixes a batch by mixup or CutMix, whichever is drawn, and smooths the targets.

        Args:
            images: (B, S, S, 3) float32.
            targets: (B, K) float32, one-hot.
            step: scalar int64.
        """
        config, smoothing = self.config, self.config.label_smoothing
        targets = (1.0 - smoothing) * targets + smoothing / targets.shape[1]
        if not (config.mixup or config.cutmix):
            return images, targets
        coin, *centre = tf.unstack(self.uniforms(step, _MIX, (3,)))
        cuts = coin < (0.5 if config.mixup and config.cutmix else float(config.cutmix > 0))
        concentration = tf.where(cuts, float(config.cutmix), float(config.mixup))
        gammas = tf.random.stateless_gamma((2,), self.stream(step, _BETA), concentration)
        share = gammas[0] / tf.reduce_sum(gammas)  # of the Beta law
        weight = tf.where(cuts, 1.0, share)
        box = sampling.cut_box(tf.stack(centre), self.size, tf.where(cuts, share, 1.0))
        return operations.mix(images, targets, weight, box)


def labelled_views(
    images: ImageSet, views: AugmentedViews, batch_size: int, start_step: int, end_step: int
) -> tf.data.Dataset:
    """Returns the training batches of steps `start_step` to `end_step`, as of `step_views`.

    Args:
        images: ImageSet, all labelled.
        views: AugmentedViews.
        batch_size, start_step, end_step: as for `step_views`.

    Returns:
        A dataset of pairs: views (B, S, S, 3) and targets (B, K), float32 both.
    """
    labels, num_classes = tf.constant(images.class_labels()), len(images.class_names)
    rows_of = step_rows(len(images), batch_size, views.seed)
    steps = tf.data.Dataset.range(start_step, end_step)
    augmented = step_views(images, views, batch_size, start_step, end_step)

    def mix(step, batch):
        targets = tf.one_hot(tf.gather(labels, rows_of(step)), num_classes)  # (B, K)
        return views.mix(batch, targets, step)

    batches = map_plainly(tf.data.Dataset.zip(steps, augmented), mix)
    return batches.prefetch(tf.data.AUTOTUNE)
