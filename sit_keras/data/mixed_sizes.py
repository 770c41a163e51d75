"""Images of mixed sizes for `SiTPretrainer.fit`: they are cropped before they can be a batch.

Shapes: B batch, S side, H W C image.
"""

import dataclasses
import typing

import tensorflow as tf

from sit_keras.data.pipeline import map_plainly
from sit_keras.data.single_crops import cut_crops

if typing.TYPE_CHECKING:
    from sit_keras.training.pretrainer import SiTPretrainer


def pair_crops(
    dataset: tf.data.Dataset,
    model: "SiTPretrainer",
    batch_size: int,
    validation: bool = False,
) -> tf.data.Dataset:
    """Cuts two random crops out of each image, for `SiTPretrainer.fit`.

    The crops follow the step of the model, so every epoch and every `fit` sees other ones.

    Args:
        dataset: yields single images (H, W, C) of any size and type, in the value range of the
            model. Images that are too few for a last batch are left out.
        model: SiTPretrainer.
        batch_size: int.
        validation: bool. Cut the crops of validation, for `validation_data` and `evaluate`: the
            same each time, drawn with the next seed, so that training never sees them.

    Returns:
        A dataset of pairs of crops (B, 2, S, S, C) uint8.

    Raises:
        ValueError: if the elements are not images.

    Example:
        ```
        photos = tf.data.Dataset.list_files("photos/*.jpg").map(read)
        model.fit(sit_keras.pair_crops(photos, model, batch_size=64), epochs=100)
        ```
    """
    two_views, channels = model.two_views, model.backbone.image_shape[-1]
    if validation:
        two_views = dataclasses.replace(two_views, seed=two_views.seed + 1)
    spec = getattr(dataset, "element_spec", None)
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (3, None):
        received = f"elements {spec}" if spec is not None else type(dataset).__name__
        raise ValueError(
            f"Expected a tf.data.Dataset of single images (H, W, {channels}) without labels; "
            f"received {received}. Make one with tf.data.Dataset.from_tensor_slices, or map yours "
            "to its images. Batches of one size go to `fit` as they are."
        )
    if spec.shape.rank == 3 and spec.shape[-1] not in (1, channels, None):
        raise ValueError(
            f"Expected images of {channels} channels, or greyscale ones of 1 channel; received "
            f"{spec.shape[-1]} channels."
        )

    def one_epoch(_):
        if validation:
            begin = tf.constant(0, tf.int64)
        else:
            begin = tf.numpy_function(lambda: model.step.numpy(), [], tf.int64)
            begin = tf.ensure_shape(begin, ())

        def crop(number, image):
            if image.shape[-1] == 1:
                image = tf.repeat(image, channels, axis=-1)
            step, position = begin + number // batch_size, number % batch_size
            height, width = tf.unstack(tf.shape(image)[:2])
            boxes, flips = two_views.draw_crops(height, width, step, position)
            value_range = two_views.preprocessing.value_range
            return cut_crops(image, boxes, flips, two_views.image_size, value_range)

        return map_plainly(dataset.enumerate(), crop)

    crops = tf.data.Dataset.range(1).flat_map(tf.autograph.experimental.do_not_convert(one_epoch))
    size = two_views.image_size
    count = dataset.cardinality()  # negative where it is not known, or without an end
    if count >= 0:
        crops = crops.apply(tf.data.experimental.assert_cardinality(count))
    batches = crops.batch(batch_size, drop_remainder=True)
    return map_plainly(
        batches, lambda x: tf.ensure_shape(x, (batch_size, 2, size, size, channels))
    ).prefetch(tf.data.AUTOTUNE)
