"""tf.data pipelines: images of each step for training, normalised images for evaluation.

Shapes: B batch, b a device's share of it, S side, H W C image.
"""

import contextlib
import dataclasses
import functools
import os
import re
import typing

import tensorflow as tf

from sit_keras.augment.operations import unit_pixels
from sit_keras.augment.pretext import TwoViews
from sit_keras.data.image_tensors import decode_image, open_image
from sit_keras.data.images import ImageSet
from sit_keras.data.single_crops import cut_crops
from sit_keras.models.preprocessing import ImagePreprocessing


class Views(typing.Protocol):
    """What a pipeline asks of views: `TwoViews`, or `AugmentedViews` for training with labels."""

    @property
    def image_size(self) -> int: ...

    @property
    def seed(self) -> int: ...

    def draw_crops(
        self, height: tf.Tensor, width: tf.Tensor, step: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the boxes (V, 4) and flips (V,) of an image at a position of the global batch."""


@contextlib.contextmanager
def lost_images_explained() -> typing.Iterator[None]:
    """Raises what is wrong with an image as the OSError that it was, before TensorFlow wrapped it.

    Images are looked at before they are used, so this is about those that were lost afterwards.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"\bOSError: (.+)", str(error))
        if found is None:
            raise
        raise OSError(found[1]) from error


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which part of each batch a process makes: that of `local` devices out of `count`.

    Args:
        first: int. The number of the first of this process' devices among all.
        local: int. How many devices this process has.
        count: int. How many devices share a batch.
    """

    first: int = 0
    local: int = 1
    count: int = 1


WHOLE = Shard()


def step_images(
    images: ImageSet,
    two_views: TwoViews,
    batch_size: int,
    start_step: int,
    end_step: int,
    shuffle: bool = True,
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """Returns the images of steps `start_step` to `end_step`, for a `SiTPretrainer` to view.

    Args:
        images: ImageSet.
        two_views: TwoViews. Crops images of mixed sizes; its seed orders the images.
        batch_size: int. Of the global batch. The images left over at the end of an epoch wait for
            the next one.
        start_step, end_step: int. `start_step` counts from the beginning of the run.
        shuffle: bool. A new order each epoch.
        shard: Shard. One batch for each of its devices, in turn.

    Returns:
        A dataset of images (b, H, W, C) uint8, or of pairs of crops (b, 2, S, S, C) uint8 where the
        images are files of any size.

    Raises:
        ValueError: if there are fewer images than one batch holds.
    """
    parts = step_parts(images, two_views, batch_size, start_step, end_step, shuffle, shard)
    return map_plainly(parts, lambda step, first, items: items).prefetch(tf.data.AUTOTUNE)


def step_views(
    images: ImageSet,
    two_views: TwoViews,
    batch_size: int,
    start_step: int,
    end_step: int,
    shuffle: bool = True,
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """Returns the views of steps `start_step` to `end_step`, made in the pipeline.

    They are those that `SiTPretrainer` makes of `step_images` at these steps.

    Args and errors are those of `step_images`.

    Returns:
        A dataset of the dicts of `TwoViews`.
    """
    parts = step_parts(images, two_views, batch_size, start_step, end_step, shuffle, shard)
    make = compiled_views(two_views)
    views = map_plainly(parts, lambda step, first, items: make(items, step, first))
    return views.prefetch(tf.data.AUTOTUNE)


def compiled_views(two_views: TwoViews) -> typing.Callable:
    """Returns a function like `two_views`, whose stages are compiled with XLA one by one."""
    compiled = functools.cache(lambda stage: tf.function(stage, jit_compile=True, autograph=False))
    return functools.partial(two_views, each=compiled)


def step_parts(
    images: ImageSet,
    views: Views,
    batch_size: int,
    start_step: int,
    end_step: int,
    shuffle: bool = True,
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """Returns what a step works on, for each step and each device of the shard.

    Args:
        images, batch_size, start_step, end_step, shuffle, shard: as for `step_images`.
        views: Views. Draws the crops of images of mixed sizes; its seed orders the images.

    Returns:
        A dataset of (step, position of the first image in the global batch, images or crops). Crops
        are (b, V, S, S, C) uint8.
    """
    share = batch_size // shard.count
    rows_of = step_rows(len(images), batch_size, views.seed, shuffle)
    numbers = tf.data.Dataset.range(start_step * shard.local, end_step * shard.local)

    def place(number):
        step, device = number // shard.local, shard.first + number % shard.local
        return step, tf.cast(device * share, tf.int32)

    places = map_plainly(numbers, place)
    items = _items_tensor(images)
    rows = tf.range(share, dtype=tf.int32)
    if images.in_memory:
        return map_plainly(
            places,
            lambda step, first: (step, first, tf.gather(items, rows_of(step, first + rows))),
        )

    def one_by_one(step, first):
        positions = first + rows
        paths = tf.gather(items, rows_of(step, positions))
        return tf.data.Dataset.from_tensor_slices((tf.fill((share,), step), positions, paths))

    def crop(step, position, path):
        opened = open_image(path, views.image_size, images.value_range, images.channels)
        boxes, flips = views.draw_crops(*tf.unstack(opened.size), step, position)
        image, scale = decode_image(opened, tf.reduce_min(boxes[:, 2:]) / views.image_size)
        return cut_crops(image, boxes * tf.tile(scale, (2,)), flips, views.image_size)

    crops = map_plainly(places.flat_map(one_by_one), crop).batch(share, drop_remainder=True)
    parts = tf.data.Dataset.zip(places, crops)
    count = max(0, (end_step - start_step) * shard.local)
    parts = parts.apply(tf.data.experimental.assert_cardinality(count))
    return map_plainly(parts, lambda place, items: (*place, items))


def step_rows(
    num_images: int, batch_size: int, seed: int, shuffle: bool = True
) -> typing.Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the function from a step and positions (b,) in its batch to images (b,) int64."""
    steps_per_epoch = count_steps(num_images, batch_size)

    def rows_of(step, positions):
        epoch, batch = step // steps_per_epoch, step % steps_per_epoch
        rows = batch * batch_size + tf.cast(positions, tf.int64)
        if not shuffle:
            return rows
        key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch]), tf.uint32)
        return tf.random.experimental.index_shuffle(rows, key, num_images - 1)

    return rows_of


def map_plainly(dataset: tf.data.Dataset, function: typing.Callable) -> tf.data.Dataset:
    """Maps in parallel, without AutoGraph: it takes seconds to find nothing to do in our views."""
    return dataset.map(tf.autograph.experimental.do_not_convert(function), tf.data.AUTOTUNE)


def count_steps(num_images: int, batch_size: int) -> int:
    """Returns the whole batches in an epoch.

    Raises:
        ValueError: if there is none.
    """
    if num_images == 0:
        raise ValueError("No image is left to train on: lower --holdout, or use more images.")
    if num_images < batch_size:
        raise ValueError(
            f"A batch of {batch_size} is larger than the {num_images} images to train on, so an "
            f"epoch would have no step: use batch_size={num_images} or less, or more images."
        )
    return num_images // batch_size


def _items_tensor(images: ImageSet) -> tf.Tensor:
    """Returns the pixels, or the paths as bytes: not every path is UTF-8, as strings are here.

    Pipelines run on the CPU, and a data set would fill the memory of a GPU.
    """
    with tf.device("CPU:0"):
        if images.in_memory:
            return tf.constant(images.items)
        return tf.constant([os.fsencode(path) for path in images.items], tf.string)


def eval_batches(
    images: ImageSet, preprocessing: ImagePreprocessing, batch_size: int = 256
) -> tf.data.Dataset:
    """Returns normalised images for evaluation.

    Args:
        images: ImageSet.
        preprocessing: ImagePreprocessing, such as `ImagePreprocessing.of(backbone)`.
        batch_size: int.

    Returns:
        A dataset of (B, h, w, C) float32 batches in the size of the backbone; the last may be
        smaller.
    """

    def prepare(batch):
        return preprocessing.normalize(preprocessing.centre(unit_pixels(batch)))

    items = _items_tensor(images)
    if images.in_memory:
        starts = tf.data.Dataset.range(0, len(images), batch_size)
        batches = map_plainly(starts, lambda start: prepare(items[start : start + batch_size]))
    else:
        rows = tf.data.Dataset.range(len(images))

        def read(row):
            pixels = read_for_evaluation(items[row], preprocessing, images.value_range)
            return prepare(pixels[None])[0]

        batches = map_plainly(rows, read)
        batches = batches.batch(batch_size)
    return batches.prefetch(tf.data.AUTOTUNE)


def read_for_evaluation(
    path: tf.Tensor, preprocessing: ImagePreprocessing, value_range: tuple[float, float] | None
) -> tf.Tensor:
    """Reads an image file at no more than the size that its evaluation needs.

    Args:
        path: () string.
        preprocessing: ImagePreprocessing, which gets the pixels next.
        value_range: as for `sit_keras.data.reading.read_image`.

    Returns:
        (H, W, C) uint8.

    Raises:
        tf.errors.OpError: if the file cannot be read.
    """
    *sides, channels = preprocessing.image_shape
    size = max(sides)
    opened = open_image(path, size, value_range, channels)
    height_and_width = tf.cast(opened.size, tf.float32)
    # The side that becomes the input: of a whole image, it is the long one.
    if preprocessing.config.fit == "pad":
        side = tf.reduce_max(height_and_width)
    else:
        side = tf.reduce_min(height_and_width) * preprocessing.config.crop
    # Whole pixels of a reduced image are large steps for the borders of the crop, so twice the
    # size is decoded.
    return decode_image(opened, side / (2 * size))[0]
