"""Frozen features of images: computed once, used by every probe."""

import numpy as np
import tensorflow as tf

from sit_keras.backbone import SiTEncoder
from sit_keras.config import NUM_CHANNELS
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches


class FrozenFeatures:
    """Computes both tokens of images with an encoder that runs in inference mode.

    Traced once, so that it is cheap to call after every epoch.

    Args:
        encoder: SiTEncoder.

    Call arguments:
        batches: a dataset of `eval_batches`.

    Returns:
        (N, 2 * D) float32: the rotation and the contrastive token side by side.
    """

    def __init__(self, encoder: SiTEncoder):
        shape = (None, *encoder.config.input_size, NUM_CHANNELS)

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
        def tokens(batch):
            outputs = encoder(batch, training=False)
            both = tf.concat([outputs["rotation"], outputs["contrastive"]], axis=-1)
            return tf.cast(both, tf.float32)

        self._tokens = tokens

    def __call__(self, batches: tf.data.Dataset) -> np.ndarray:
        return np.concatenate([self._tokens(batch).numpy() for batch in batches])


def encoder_features(encoder: SiTEncoder, images: ImageSet, eval_crop: float) -> np.ndarray:
    """Computes the features (N, 2 * D) float32 of images once.

    Args:
        encoder: SiTEncoder.
        images: ImageSet.
        eval_crop: float. See `ViewConfig`.
    """
    return FrozenFeatures(encoder)(eval_batches(images, encoder.config.square_size, eval_crop))


def pixel_features(images: ImageSet, size: int, eval_crop: float) -> np.ndarray:
    """Returns the plain pixels (N, size * size * 3) float32 that an encoder would see."""
    batches = eval_batches(images, size, eval_crop)
    return np.concatenate([batch.numpy().reshape(len(batch), -1) for batch in batches])
