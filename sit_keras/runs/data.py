"""The images of a run: those to train on, to validate with and to evaluate with."""

import dataclasses
import os
import pathlib
import typing

import numpy as np
import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.settings import RunConfig
from sit_keras.data.channel_statistics import channel_statistics
from sit_keras.data.images import ImageSet
from sit_keras.data.path_list import list_folder
from sit_keras.data.pipeline import WHOLE, Shard, count_steps, step_images
from sit_keras.data.record_address import RecordAddress
from sit_keras.data.sources import load_source
from sit_keras.data.splits import hold_out

# Enough to compare an encoder with its baselines; the paper's protocols use every image.
MAX_PROBE_TRAIN, MAX_PROBE_TEST = 5_000, 2_000
# One device validates, after each epoch: at most so many batches, and images beyond the first one.
MAX_VALIDATION_BATCHES, MAX_VALIDATION_IMAGES = 10, 2_048
MIN_VALIDATION_IMAGES = 16
# Images by which the gradients of the tasks are measured, and of the sheets.
MAX_MEASURED = 64


@dataclasses.dataclass(frozen=True)
class RunData:
    """The images that a run's settings ask for.

    Args:
        config: RunConfig.
        train, held_out: ImageSet. The training split, in two parts.
        test: ImageSet or None. The source's own test split.
        recorded_steps: int or None. Steps of an epoch that a run began with, if it is continued
            with other images.
    """

    config: RunConfig
    train: ImageSet
    held_out: ImageSet
    test: ImageSet | None
    recorded_steps: int | None = None

    @classmethod
    def load(
        cls, config: RunConfig, data_dir: str | os.PathLike | None = None, download: bool = False
    ) -> "RunData":
        """Returns the images; arguments as for `sit_keras.data.load_source`.

        The settings that are returned with them have the mean and the deviation that were measured,
        where the ones that are given measure their channels.

        Raises:
            ValueError: as there, and for settings that these images cannot train.
        """
        source = load_source(
            config.dataset,
            data_dir,
            download,
            config.strict,
            config.value_range,
            config.model.channels,
        )
        train, held_out = hold_out(source.train, config.holdout, config.seed)
        if config.measures_channels:
            config = _measured(config, train)
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
        return self.recorded_steps or steps_per_epoch(self.config, len(self.train))

    @property
    def folder(self) -> pathlib.Path | None:
        """The folder of the data set, or of the list of its images; None for images in memory."""
        return folder_of(self.config.dataset, self.train)

    def refuse_as_output(self, output: str | os.PathLike) -> None:
        """Raises ValueError if a folder for results is one of the folders of these images."""
        parts = [part for part in (self.train, self.held_out, self.test) if part is not None]
        refuse_among_images(output, self.config.dataset, parts)

    def train_batches(self, first: int, last: int, shard: Shard = WHOLE) -> tf.data.Dataset:
        """Returns the images of steps `first` to `last` of the run, see `step_images`.

        Args:
            first, last: int.
            shard: Shard. The part of this process.
        """
        batch_size = self.config.batch_size
        return step_images(self.train, self.two_views, batch_size, first, last, shard=shard)

    @property
    def needed_to_validate(self) -> int:
        """How many images must be held out for a validation."""
        return min(self.config.batch_size, MIN_VALIDATION_IMAGES)

    @property
    def can_validate(self) -> bool:
        """Whether enough images are held out."""
        return len(self.held_out) >= self.needed_to_validate

    def watched(self, at_most: int) -> ImageSet:
        """Returns some images, in an order of the seed, for validation, sheets and gradient shares.

        They are held-out images if enough of these exist, else training images.
        """
        images = self.held_out if self.can_validate else self.train
        return shuffled(images, self.config.seed, at_most)

    def validation_batches(self) -> tf.data.Dataset:
        """Returns the same held-out images every epoch, see `step_images`.

        The size of the batches is that of training, or the number of held-out images.
        """
        batch_size, steps = self._validation_size()
        images = self.watched(steps * batch_size)
        return step_images(images, self.validation_views, batch_size, 0, steps, shuffle=False)

    @property
    def num_validation_images(self) -> int:
        """How many images the validation looks at."""
        batch_size, steps = self._validation_size()
        return steps * batch_size

    def _validation_size(self):
        """Returns the size of the batches of validation, and their number."""
        batch_size = self._in_turns(min(self.config.batch_size, len(self.held_out)))
        most = min(MAX_VALIDATION_BATCHES, max(1, MAX_VALIDATION_IMAGES // batch_size))
        return batch_size, min(most, len(self.held_out) // batch_size)

    def views(self, step: int) -> dict[str, tf.Tensor]:
        """Returns the views of one step of the training, as the model makes them."""
        (images,) = self.train_batches(step, step + 1)
        return self.two_views(images, step)

    def sample_of_validation(self, make_views: typing.Callable) -> dict[str, tf.Tensor]:
        """Returns views of at most `MAX_MEASURED` watched images, as validation draws them.

        Args:
            make_views: that of the `SiTPretrainer`, which has compiled it.
        """
        at_most = min(MAX_MEASURED, self.config.batch_size)
        images = self.watched(self._in_turns(min(at_most, len(self.watched(at_most)))))
        (batch,) = step_images(images, self.validation_views, len(images), 0, 1, shuffle=False)
        return make_views(batch, tf.constant(0, tf.int64), validation=True)

    def _in_turns(self, count):
        """Returns as many of so many images as divide evenly into turned and other ones."""
        every = self.config.views.turned_every or 1
        return count if count < every else count // every * every

    def probe_images(self, test: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Returns the labelled images that a probe learns from, and those of `test`."""
        seed = self.config.seed
        return (
            self.train.labelled().subset(MAX_PROBE_TRAIN, seed),
            test.labelled().subset(MAX_PROBE_TEST, seed),
        )


def folder_of(dataset: str, images: ImageSet) -> pathlib.Path | None:
    """Returns the folder of a data set, or of the list of its images; None for images in memory."""
    if images.in_memory:
        return None
    kind, _, path = dataset.partition(":")
    address = RecordAddress.parse(str(images.items[0])) if kind == "tfds" else None
    if address is not None:
        return pathlib.Path(address.shard).parent
    return pathlib.Path(list_folder(path) if kind == "list" else path).expanduser()


def refuse_among_images(
    output: str | os.PathLike, dataset: str, parts: typing.Sequence[ImageSet]
) -> None:
    """Raises ValueError if a folder for results is one of the folders of images.

    Results may lie in a folder of their own among the images, which is left out of them.

    Args:
        output: the folder.
        dataset: str. What the images are of.
        parts: ImageSets, at least one.
    """
    home = folder_of(dataset, parts[0])
    if home is None:
        return
    output, root = os.path.realpath(output), os.path.realpath(home)
    folders = {os.path.dirname(path) for part in parts for path in part.items.tolist()}
    own = {root, *map(os.path.realpath, folders)}
    is_above = output.startswith(root + os.sep) and any(
        folder.startswith(output + os.sep) for folder in own
    )
    if output in own or is_above:
        raise ValueError(
            f"{output} is a folder of the images of {dataset}, among which results would lie: give "
            "another folder for the results."
        )


def with_statistics(
    config: RunConfig, data_dir: str | os.PathLike | None = None, download: bool = False
) -> RunConfig:
    """Returns settings with the mean and the deviation of their training images, if they want them.

    Args:
        config: RunConfig.
        data_dir, download: as for `sit_keras.load_source`.
    """
    return RunData.load(config, data_dir, download).config if config.measures_channels else config


def _measured(config: RunConfig, images: ImageSet) -> RunConfig:
    """Returns settings with the mean and the deviation of images, and prints them."""
    mean, std, count = channel_statistics(images, config.seed)
    texts = (",".join(f"{value:g}" for value in values) for values in (mean, std))
    print(
        "The mean and the deviation of {} channels were measured on {} training images: "
        "--set=preprocessing.mean={} --set=preprocessing.std={}".format(len(mean), count, *texts)
    )
    preprocessing = dataclasses.replace(config.preprocessing, mean=mean, std=std)
    return dataclasses.replace(config, preprocessing=preprocessing)


def shuffled(images: ImageSet, seed: int, at_most: int | None = None) -> ImageSet:
    """Returns images, or the first of them, in an order of the seed; folders are read by class."""
    return images.take(np.random.default_rng(seed).permutation(len(images))[:at_most])


def steps_per_epoch(config: RunConfig, num_images: int) -> int:
    """Returns the steps of an epoch over `num_images`; ValueError if they fill no batch."""
    steps = count_steps(num_images, config.batch_size)
    return min(steps, config.steps_per_epoch or steps)
