"""The images of a run: those to train on, to validate with and to evaluate with."""

import dataclasses
import os

import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.settings import RunConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import WHOLE, Shard, count_steps, step_images
from sit_keras.data.sources import load_source
from sit_keras.data.splits import hold_out

# Enough to compare an encoder with its baselines; the paper's protocols use every image.
MAX_PROBE_TRAIN, MAX_PROBE_TEST = 5_000, 2_000
MAX_VALIDATION_STEPS = 10
MIN_VALIDATION_IMAGES = 16


@dataclasses.dataclass(frozen=True)
class RunData:
    """The images that a run's settings ask for.

    Args:
        config: RunConfig.
        train, held_out: ImageSet. The training split, in two parts.
        test: ImageSet or None. The source's own test split.
    """

    config: RunConfig
    train: ImageSet
    held_out: ImageSet
    test: ImageSet | None

    @classmethod
    def load(
        cls, config: RunConfig, data_dir: str | os.PathLike | None = None, download: bool = False
    ) -> "RunData":
        """Returns the images; arguments as for `sit_keras.data.load_source`.

        Raises:
            ValueError: as there, and for settings that these images cannot train.
        """
        source = load_source(config.dataset, data_dir, download, config.strict, config.value_range)
        train, held_out = hold_out(source.train, config.holdout, config.seed)
        data = cls(config, train, held_out, source.test)
        _ = data.two_views, data.steps_per_epoch  # whatever they refuse, before anything is written
        return data

    @property
    def two_views(self) -> TwoViews:
        """What makes the views of training."""
        config = self.config
        return TwoViews(
            config.model.image_size,
            config.views,
            config.corruption,
            config.preprocessing,
            config.seed,
        )

    @property
    def validation_views(self) -> TwoViews:
        """What makes the views of validation, as `SiTPretrainer` does."""
        return dataclasses.replace(self.two_views, seed=self.config.seed + 1)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; raises ValueError if there are too few images for one."""
        return steps_per_epoch(self.config, len(self.train))

    def train_batches(self, first: int, last: int, shard: Shard = WHOLE) -> tf.data.Dataset:
        """Returns the images of steps `first` to `last` of the run, see `step_images`.

        Args:
            first, last: int.
            shard: Shard. The part of this process.
        """
        batch_size = self.config.batch_size
        return step_images(self.train, self.two_views, batch_size, first, last, shard=shard)

    def validation_batches(self, divisor: int, shard: Shard = WHOLE) -> tf.data.Dataset:
        """Returns the same images every epoch, held-out ones if there are enough of them.

        Args:
            divisor: int. Divides the size of the batches.
            shard: Shard. The part of this process.
        """
        enough = len(self.held_out) >= min(self.config.batch_size, MIN_VALIDATION_IMAGES)
        watched = self.held_out if enough else self.train
        batch_size = min(self.config.batch_size, len(watched))
        batch_size = max(batch_size // divisor, 1) * divisor
        steps = min(MAX_VALIDATION_STEPS, count_steps(len(watched), batch_size))
        return step_images(
            watched, self.validation_views, batch_size, 0, steps, shuffle=False, shard=shard
        )

    def views(self, step: int) -> dict[str, tf.Tensor]:
        """Returns the views of one step of the training, as the model makes them."""
        (images,) = self.train_batches(step, step + 1)
        return self.two_views(images, step)

    def sample_of_validation(self, count: int) -> dict[str, tf.Tensor]:
        """Returns the views of at most so many images of the validation."""
        images = next(iter(self.validation_batches(1)))[:count]
        return self.validation_views(images, 0)

    def probe_images(self, test: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Returns the labelled images that a probe learns from, and those of `test`."""
        seed = self.config.seed
        return (
            self.train.labelled().subset(MAX_PROBE_TRAIN, seed),
            test.labelled().subset(MAX_PROBE_TEST, seed),
        )


def steps_per_epoch(config: RunConfig, num_images: int) -> int:
    """Returns the steps of an epoch over `num_images`; ValueError if they fill no batch."""
    steps = count_steps(num_images, config.batch_size)
    return min(steps, config.steps_per_epoch or steps)
