"""tf.data pipelines: batches of views for training, plain images for evaluation.

Shapes: B batch, S side, H W C image.
"""

import os
import typing

import numpy as np
import tensorflow as tf

from sit_keras.augment import operations
from sit_keras.data.images import ImageSet
from sit_keras.data.reading import read_image
from sit_keras.data.views import CroppedViews, TwoViews, centre_view, unit_pixels

# A crop of 8 % of the area is 28 % of the side, so files are read at up to four times the size
# wanted and no larger: a photo of 12 megapixels would cost a hundred times the work.
_READ_SCALE = 4


def pair_views(
    dataset: tf.data.Dataset, two_views: TwoViews, batch_size: int | None = None
) -> tf.data.Dataset:
    """Turns a user's own dataset of images into batches of views for `SiTPretrainer.fit`.

    Args:
        dataset: yields batches (B, H, W, 3) of one size, or single images (H, W, 3) of any size;
            uint8, or float in [0, 1].
        two_views: TwoViews.
        batch_size: int. Needed for single images.

    Returns:
        A dataset of the dicts of `TwoViews.__call__`.

    Raises:
        ValueError: if the elements are not images, or the batch size is missing or superfluous.
    """
    spec = dataset.element_spec
    rank = spec.shape.rank if isinstance(spec, tf.TensorSpec) else None
    if rank not in (3, 4) or spec.shape[-1] not in (3, None):
        raise ValueError(
            "Expected a dataset of images (H, W, 3) or of batches (B, H, W, 3), without labels; "
            f"received elements {spec}. Map it to its images first."
        )
    if rank == 4:
        if batch_size is not None:
            raise ValueError("The dataset is batched already: leave batch_size out.")
        batches = map_plainly(dataset.enumerate(), lambda step, images: two_views(images, step))
        return batches.prefetch(tf.data.AUTOTUNE)
    if batch_size is None:
        raise ValueError("The dataset yields single images: give batch_size.")

    def crop(index, image):
        step, position = index // batch_size, index % batch_size
        return two_views.crop_one(image, step, position, batch_size)

    crops = map_plainly(dataset.enumerate(), crop)
    return _finish_batches(crops, two_views, batch_size, 0)


def step_views(
    images: ImageSet,
    views: CroppedViews,
    batch_size: int,
    start_step: int,
    end_step: int,
    shuffle: bool = True,
) -> tf.data.Dataset:
    """Returns the views of steps `start_step` to `end_step`, each a pure function of its number.

    Args:
        images: ImageSet.
        views: TwoViews, or other views.
        batch_size: int. The images left over at the end of an epoch wait for the next one.
        start_step, end_step: int. `start_step` counts from the beginning of the run.
        shuffle: bool. A new order each epoch.

    Returns:
        A dataset of what the views return for each of `end_step - start_step` batches.

    Raises:
        ValueError: if there are fewer images than one batch holds.
    """
    rows_of = step_rows(len(images), batch_size, views.seed, shuffle)
    steps = tf.data.Dataset.range(start_step, end_step)
    if images.in_memory:
        pixels = tf.constant(images.items)
        batches = map_plainly(steps, lambda step: views(tf.gather(pixels, rows_of(step)), step))
        return batches.prefetch(tf.data.AUTOTUNE)

    paths = tf.constant(images.items)

    def one_by_one(step):
        rows = tf.gather(paths, rows_of(step))
        places = tf.range(batch_size, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((tf.fill((batch_size,), step), places, rows))

    def crop(step, position, path):
        return views.crop_one(read_tensor(path, views.size), step, position, batch_size)

    crops = map_plainly(steps.flat_map(one_by_one), crop)
    dataset = _finish_batches(crops, views, batch_size, start_step)
    return dataset.apply(tf.data.experimental.assert_cardinality(max(0, end_step - start_step)))


def step_rows(
    num_images: int, batch_size: int, seed: int, shuffle: bool = True
) -> typing.Callable[[tf.Tensor], tf.Tensor]:
    """Returns what tells which images (B,) int64 a step takes; arguments as for `step_views`."""
    steps_per_epoch = count_steps(num_images, batch_size)

    def rows_of(step):
        epoch, batch = step // steps_per_epoch, step % steps_per_epoch
        rows = batch * batch_size + tf.range(batch_size, dtype=tf.int64)
        if not shuffle:
            return rows
        key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch]), tf.uint32)
        return tf.random.experimental.index_shuffle(rows, key, num_images - 1)

    return rows_of


def _finish_batches(crops, two_views, batch_size, start_step):
    batches = crops.batch(batch_size, drop_remainder=True).enumerate(start_step)
    views = map_plainly(batches, lambda step, batch: two_views.finish(batch, step))
    return views.prefetch(tf.data.AUTOTUNE)


def map_plainly(dataset: tf.data.Dataset, function: typing.Callable) -> tf.data.Dataset:
    """Maps in parallel, without AutoGraph: it takes seconds to find nothing to do in our views."""
    return dataset.map(tf.autograph.experimental.do_not_convert(function), tf.data.AUTOTUNE)


def count_steps(num_images: int, batch_size: int) -> int:
    """Returns the whole batches in an epoch.

    Raises:
        ValueError: if there is none.
    """
    if num_images < batch_size:
        raise ValueError(
            f"A batch of {batch_size} is larger than the {num_images} images to train on, so an "
            f"epoch would have no step: use batch_size={num_images} or less, or more images."
        )
    return num_images // batch_size


def read_tensor(path: tf.Tensor, size: int) -> tf.Tensor:
    """Reads a file inside of tf.data for views of `size` pixels: string -> (H, W, 3) uint8."""
    image = tf.numpy_function(
        lambda p: read_image(os.fsdecode(p), _READ_SCALE * size), [path], tf.uint8
    )
    return tf.ensure_shape(image, (None, None, 3))


def eval_batches(
    images: ImageSet, size: int, eval_crop: float, batch_size: int = 256
) -> tf.data.Dataset:
    """Returns normalised images for evaluation: the centre crop, resized.

    Args:
        images: ImageSet.
        size: int. Side of the result in pixels.
        eval_crop: float. Share of the image's short side that is kept (0.875 = 224 / 256).
        batch_size: int.

    Returns:
        A dataset of (B, S, S, 3) float32 batches; the last may be smaller.
    """

    def centre_crop(batch):
        return operations.normalize(centre_view(unit_pixels(batch), size, eval_crop))

    dataset = tf.data.Dataset.from_tensor_slices(np.arange(len(images), dtype=np.int64))
    items = tf.constant(images.items)
    if images.in_memory:
        batches = map_plainly(
            dataset.batch(batch_size), lambda rows: centre_crop(tf.gather(items, rows))
        )
    else:
        batches = map_plainly(
            dataset, lambda row: centre_crop(read_tensor(items[row], size)[None])[0]
        ).batch(batch_size)
    return batches.prefetch(tf.data.AUTOTUNE)
