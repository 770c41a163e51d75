"""Frozen features of images: computed once, used by every probe.

Shapes: B batch, N images, S side, D width.
"""

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import check_choice
from sit_keras.config.network import NUM_CHANNELS
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.models.backbone import SiTEncoder

FEATURES = ("tokens", "rotation", "contrastive", "patches")

# Features by their name, each (N, width) float32.
Features = dict[str, np.ndarray]


class FrozenFeatures:
    """Computes features of images with an encoder that runs in inference mode.

    Traced once, so that it is cheap to call after every epoch. All replicas of a mirrored encoder
    share the work; of several workers only the one that asks has any.

    Args:
        encoder: SiTEncoder.

    Call arguments:
        batches: a dataset of `eval_batches`.

    Returns:
        A dict of (N, D) float32 arrays: `rotation` and `contrastive`, the two tokens, and
        `patches`, the mean of the patch tokens.
    """

    def __init__(self, encoder: SiTEncoder):
        def compute(batch):
            outputs = encoder(batch, training=False)
            outputs = {**outputs, "patches": tf.reduce_mean(outputs["patches"], axis=1)}
            return {name: tf.cast(value, tf.float32) for name, value in outputs.items()}

        self._size = encoder.config.square_size
        self._strategy = strategy = encoder.distribute_strategy
        self._is_shared = isinstance(strategy, tf.distribute.MirroredStrategy)
        if self._is_shared:
            self._compute = tf.function(lambda batch: strategy.run(compute, args=(batch,)))
        else:
            shape = (None, *encoder.config.input_size, NUM_CHANNELS)
            self._compute = tf.function(compute, input_signature=[tf.TensorSpec(shape, tf.float32)])

    def __call__(self, batches: tf.data.Dataset) -> Features:
        if self._is_shared:
            batches = self._strategy.experimental_distribute_dataset(batches)
        parts = {"rotation": [], "contrastive": [], "patches": []}
        for batch in batches:
            for name, values in self._compute(batch).items():
                values = self._strategy.experimental_local_results(values)
                parts[name] += [value.numpy() for value in values]
        return {name: np.concatenate(values) for name, values in parts.items()}

    def of(self, images: ImageSet, eval_crop: float) -> Features:
        """Returns the features of images in their order, cropped as `ViewConfig` says."""
        return self(eval_batches(images, self._size, eval_crop))


def select_features(features: Features, kind: str) -> np.ndarray:
    """Returns one of `FEATURES` as a matrix (N, E); `tokens` are both tokens side by side."""
    check_choice("features", kind, FEATURES)
    if kind == "tokens":
        return np.concatenate([features["rotation"], features["contrastive"]], axis=1)
    return features[kind]


def head_features(features: Features) -> Features:
    """Returns the features that a classifier has a head for: the two tokens."""
    return {name: features[name] for name in ("rotation", "contrastive")}


def pixel_features(images: ImageSet, size: int, eval_crop: float) -> np.ndarray:
    """Returns the plain pixels (N, size * size * 3) float32 that an encoder would see."""
    batches = eval_batches(images, size, eval_crop)
    return np.concatenate([batch.numpy().reshape(len(batch), -1) for batch in batches])


def unit(x: np.ndarray) -> np.ndarray:
    """Returns the rows of a matrix at length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
