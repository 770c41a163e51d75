"""Features of images from a frozen encoder.

Shapes: B batch, N images, h w the encoder's input, C channels, D width.
"""

import functools
import math
import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import check_choice
from sit_keras.config.choices import FEATURES
from sit_keras.config.progress import Progress
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead
from sit_keras.models.preprocessing import ImagePreprocessing

# By the name of the feature, (N, D) float32.
Features = dict[str, np.ndarray]

# Prepared images of no more bytes are kept after they were used for the first time.
KEPT_BYTES = 64 * 2**20


class FrozenFeatures:
    """Computes features of images with an encoder that runs in inference mode.

    It is traced once, so that it is cheap to call after every epoch. Under a `MirroredStrategy` all
    replicas share the work; of several workers, each computes what it is called with alone.

    Args:
        encoder: SiTBackbone.

    Call arguments:
        batches: a dataset of `eval_batches`.
        count: int or None. Images in it, to show how long they will take.

    Returns:
        A dict of (N, D) float32 arrays: `rotation_token`, `contrastive_token`, and `patch_tokens`,
        the mean of the patch tokens.
    """

    def __init__(self, encoder: SiTBackbone):
        # TensorFlow takes functions of the same code for one that is traced again and again, and
        # warns of it; it does not look into a partial one.
        compute = functools.partial(_features, encoder)
        self.encoder = encoder
        self.preprocessing = ImagePreprocessing.of(encoder)
        self._strategy = strategy = encoder.distribute_strategy
        self._is_shared = isinstance(strategy, tf.distribute.MirroredStrategy)
        if self._is_shared:
            self._compute = tf.function(lambda batch: strategy.run(compute, args=(batch,)))
        else:
            shape = (None, *encoder.image_shape)
            self._compute = tf.function(compute, input_signature=[tf.TensorSpec(shape, tf.float32)])

    def __call__(self, batches: tf.data.Dataset, count: int | None = None) -> Features:
        return self.beside([], batches, count)[0]

    def beside(
        self,
        others: typing.Sequence["FrozenFeatures"],
        batches: tf.data.Dataset,
        count: int | None = None,
    ) -> list[Features]:
        """Returns the features of this encoder, and of others that take the same images.

        Args:
            others: FrozenFeatures of encoders of the same preprocessing, each on the replicas of
                this one or on a single device.
            batches: a dataset of `eval_batches`. It is run through once.
            count: as above.
        """
        if self._is_shared:
            batches = self._strategy.experimental_distribute_dataset(batches)
        each = [self, *others]
        parts: list[dict[str, list]] = [{name: [] for name in FEATURES[1:]} for _ in each]
        with Progress("features", count) as progress:
            for batch in batches:
                shares = self._strategy.experimental_local_results(batch)
                for features, found in zip(each, parts, strict=True):
                    for part in [batch] if features._is_shared else shares:
                        for name, values in features._compute(part).items():
                            values = self._strategy.experimental_local_results(values)
                            found[name] += [value.numpy() for value in values]
                progress.advance(sum(len(share) for share in shares))
        return [{name: np.concatenate(values) for name, values in found.items()} for found in parts]

    def of(self, images: ImageSet) -> Features:
        """Returns the features of an ImageSet, in its order."""
        return self(eval_batches(images, self.preprocessing), len(images))


def _features(encoder, batch):
    outputs = encoder(batch, training=False)
    patches = tf.reduce_mean(outputs["patch_tokens"], axis=1)
    outputs = {**outputs, "patch_tokens": patches}
    return {name: tf.cast(value, tf.float32) for name, value in outputs.items()}


def kept_batches(images: ImageSet, preprocessing: ImagePreprocessing) -> tf.data.Dataset:
    """Returns `eval_batches`, which are prepared only once if they have at most `KEPT_BYTES`."""
    batches = eval_batches(images, preprocessing)
    size = 4 * len(images) * math.prod(preprocessing.image_shape)
    return batches.cache() if size <= KEPT_BYTES else batches


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


def pixel_features(batches: tf.data.Dataset) -> np.ndarray:
    """Returns the images of `eval_batches` as their normalised pixels (N, h * w * C) float32."""
    return np.concatenate([batch.numpy().reshape(len(batch), -1) for batch in batches])


def unit(x: np.ndarray) -> np.ndarray:
    """Returns the rows of a matrix (N, E), scaled to length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
