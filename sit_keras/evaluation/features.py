"""Frozen features of images: computed once, used by every probe."""

import numpy as np
import tensorflow as tf

from sit_keras.backbone import SiTEncoder
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches


def encoder_features(
    encoder: SiTEncoder, images: ImageSet, eval_crop: float, batch_size: int = 256
) -> np.ndarray:
    """Computes both tokens of each image, the encoder run in inference mode.

    Args:
        encoder: SiTEncoder.
        images: ImageSet.
        eval_crop: float. See `ViewConfig`.
        batch_size: int.

    Returns:
        (len(images), 2 * D) float32: the rotation and the contrastive token side by side.
    """

    @tf.function(reduce_retracing=True)
    def tokens(batch):
        outputs = encoder(batch, training=False)
        both = tf.concat([outputs["rotation"], outputs["contrastive"]], axis=-1)
        return tf.cast(both, tf.float32)

    batches = eval_batches(images, encoder.config.input_size, eval_crop, batch_size)
    return np.concatenate([tokens(batch).numpy() for batch in batches])


def pixel_features(images: ImageSet, size: int, eval_crop: float) -> np.ndarray:
    """Returns the plain pixels (len(images), size * size * 3) that an encoder would see."""
    batches = eval_batches(images, size, eval_crop)
    return np.concatenate([batch.numpy().reshape(len(batch), -1) for batch in batches])
