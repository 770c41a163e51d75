"""Frozen features of images: computed once, used by every probe."""

import numpy as np
import tensorflow as tf

from sit_keras.backbone import SiTEncoder
from sit_keras.config import NUM_CHANNELS
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches


class FrozenFeatures:
    """Computes both tokens of images with an encoder that runs in inference mode.

    Traced once, so that it is cheap to call after every epoch. All replicas of a mirrored encoder
    share the work; of several workers only the one that asks has any.

    Args:
        encoder: SiTEncoder.

    Call arguments:
        batches: a dataset of `eval_batches`.

    Returns:
        (N, 2 * D) float32: the rotation and the contrastive token side by side.
    """

    def __init__(self, encoder: SiTEncoder):
        def tokens(batch):
            outputs = encoder(batch, training=False)
            both = tf.concat([outputs["rotation"], outputs["contrastive"]], axis=-1)
            return tf.cast(both, tf.float32)

        strategy = encoder.distribute_strategy
        self._is_shared = isinstance(strategy, tf.distribute.MirroredStrategy)
        self._strategy = strategy
        if self._is_shared:
            self._tokens = tf.function(lambda batch: strategy.run(tokens, args=(batch,)))
        else:
            shape = (None, *encoder.config.input_size, NUM_CHANNELS)
            self._tokens = tf.function(tokens, input_signature=[tf.TensorSpec(shape, tf.float32)])

    def __call__(self, batches: tf.data.Dataset) -> np.ndarray:
        if not self._is_shared:
            return np.concatenate([self._tokens(batch).numpy() for batch in batches])
        parts = []
        for batch in self._strategy.experimental_distribute_dataset(batches):
            parts += self._strategy.experimental_local_results(self._tokens(batch))
        return np.concatenate([part.numpy() for part in parts])


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
