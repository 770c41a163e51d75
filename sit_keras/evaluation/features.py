"""Features of images from a frozen encoder.

Shapes: B batch, N images, h w the encoder's input, C channels, D width.
"""

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import check_choice
from sit_keras.config.choices import FEATURES
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead
from sit_keras.models.preprocessing import ImagePreprocessing

# By the name of the feature, (N, D) float32.
Features = dict[str, np.ndarray]


class FrozenFeatures:
    """Computes features of images with an encoder that runs in inference mode.

    It is traced once, so that it is cheap to call after every epoch. Under a `MirroredStrategy` all
    replicas share the work; of several workers, each computes what it is called with alone.

    Args:
        encoder: SiTBackbone.

    Call arguments:
        batches: a dataset of `eval_batches`.

    Returns:
        A dict of (N, D) float32 arrays: `rotation_token`, `contrastive_token`, and `patch_tokens`,
        the mean of the patch tokens.
    """

    def __init__(self, encoder: SiTBackbone):
        def compute(batch):
            outputs = encoder(batch, training=False)
            patches = tf.reduce_mean(outputs["patch_tokens"], axis=1)
            outputs = {**outputs, "patch_tokens": patches}
            return {name: tf.cast(value, tf.float32) for name, value in outputs.items()}

        self._preprocessing = ImagePreprocessing.of(encoder)
        self._strategy = strategy = encoder.distribute_strategy
        self._is_shared = isinstance(strategy, tf.distribute.MirroredStrategy)
        if self._is_shared:
            self._compute = tf.function(lambda batch: strategy.run(compute, args=(batch,)))
        else:
            shape = (None, *encoder.image_shape)
            self._compute = tf.function(compute, input_signature=[tf.TensorSpec(shape, tf.float32)])

    def __call__(self, batches: tf.data.Dataset) -> Features:
        if self._is_shared:
            batches = self._strategy.experimental_distribute_dataset(batches)
        parts = {name: [] for name in FEATURES[1:]}
        for batch in batches:
            for name, values in self._compute(batch).items():
                values = self._strategy.experimental_local_results(values)
                parts[name] += [value.numpy() for value in values]
        return {name: np.concatenate(values) for name, values in parts.items()}

    def of(self, images: ImageSet) -> Features:
        """Returns the features of an ImageSet, in its order."""
        return self(eval_batches(images, self._preprocessing))


def select_features(features: Features, kind: str) -> np.ndarray:
    """Returns one kind of features as a matrix (N, E).

    Args:
        features: of `FrozenFeatures`.
        kind: str. One of `FEATURES`; `tokens` are both tokens side by side.
    """
    check_choice("features", kind, FEATURES)
    if kind == "tokens":
        return np.concatenate(list(head_features(features).values()), axis=1)
    return features[kind]


def head_features(features: Features) -> Features:
    """Returns the two tokens, for each of which a classifier has a head."""
    return {name: features[name] for name in ClassifierHead.tokens}


def pixel_features(images: ImageSet, preprocessing: ImagePreprocessing) -> np.ndarray:
    """Returns images as the normalised pixels (N, h * w * C) float32 that an encoder is given."""
    batches = eval_batches(images, preprocessing)
    return np.concatenate([batch.numpy().reshape(len(batch), -1) for batch in batches])


def unit(x: np.ndarray) -> np.ndarray:
    """Returns the rows of a matrix (N, E), scaled to length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
