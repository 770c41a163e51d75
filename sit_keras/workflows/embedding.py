"""Computes embeddings with one encoder, and names the images that it cannot read.

Shapes: B batch, N images, E features, h w the encoder's input, C channels, S pixels of a signature.
"""

import contextlib
import json
import os
import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import check_choice
from sit_keras.config.choices import FEATURES
from sit_keras.config.presets import presets
from sit_keras.config.serialization import to_dict
from sit_keras.config.shipped import shipped
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.data.reading import read_image
from sit_keras.evaluation.features import FrozenFeatures, select_features
from sit_keras.evaluation.index import SIGNATURE_SIDE
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.cached_step import fingerprint

BATCH = 64


class Vectors(typing.NamedTuple):
    """What is known of some images.

    Args:
        embeddings: (N, E) float32, zeros where an image cannot be read.
        signatures: (N, S) uint8, see `Index`.
        errors: (N,) str. Why an image cannot be read, or empty.
    """

    embeddings: np.ndarray
    signatures: np.ndarray
    errors: np.ndarray

    def take(self, rows) -> "Vectors":
        """Returns those of some images."""
        return Vectors(*(values[rows] for values in self))


class Embedder:
    """An encoder with trained weights, and which of its features are the embedding.

    Args:
        encoder: a run folder or whatever else `SiTBackbone.from_preset` takes.
        features: str. One of `FEATURES`.

    Call arguments:
        images: ImageSet.

    Returns:
        An iterator over the `Vectors` of the images, `BATCH` of them at a time and in their order.

    Raises:
        ValueError: if there is no such encoder, or it has no weights.
    """

    def __init__(self, encoder: str | os.PathLike, features: str = "tokens"):
        check_choice("features", features, FEATURES)
        if isinstance(encoder, str) and encoder in presets() and encoder not in shipped():
            raise ValueError(
                f"{encoder} is a preset without weights, whose embeddings mean nothing: give a run "
                f"folder of train, or one of the trained encoders {', '.join(shipped())}."
            )
        self.network = SiTBackbone.from_preset(encoder)
        self.features = features
        self._frozen = FrozenFeatures(self.network)

    @property
    def channels(self) -> int:
        """Of the images that it takes."""
        return self.network.image_shape[-1]

    @property
    def space(self) -> str:
        """A fingerprint of the weights and the preprocessing."""
        shape = list(self.network.image_shape)
        text = json.dumps([shape, to_dict(self.network.preprocessing)], sort_keys=True)
        return fingerprint([*self.network.get_weights(), np.frombuffer(text.encode(), np.uint8)])

    @property
    def width(self) -> int:
        """The number of features of an embedding, E."""
        return self.network.hidden_dim * (2 if self.features == "tokens" else 1)

    def __call__(self, images: ImageSet) -> typing.Iterator[Vectors]:
        done = 0
        while done < len(images):
            rest = images.take(np.arange(done, len(images)))
            for batch in _until_broken(eval_batches(rest, self._frozen.preprocessing, BATCH)):
                yield self._vectors(batch)
                done += len(batch)
            if done < len(images):
                yield self._vectors_of_readable(
                    images.take(np.arange(done, min(done + BATCH, len(images))))
                )
                done += BATCH

    def _vectors(self, batch) -> Vectors:
        features = self._frozen(tf.data.Dataset.from_tensors(batch))
        embeddings = select_features(features, self.features)
        config = self.network.preprocessing
        grey = tf.reduce_mean(batch * config.std + config.mean, axis=-1, keepdims=True)
        side = (SIGNATURE_SIDE, SIGNATURE_SIDE)
        levels = tf.round(255 * tf.clip_by_value(tf.image.resize(grey, side, "area"), 0, 1))
        signatures = tf.reshape(tf.cast(levels, tf.uint8), (len(batch), -1)).numpy()
        return Vectors(embeddings, signatures, np.full(len(batch), "", object))

    def _vectors_of_readable(self, images: ImageSet) -> Vectors:
        """Returns the vectors of a batch in which some files cannot be read."""
        settings = images.value_range, images.channels
        reasons = [unreadable(path, *settings) for path in images.items.tolist()]
        errors = np.array(reasons, object)
        good = np.flatnonzero(errors == "")
        embeddings = np.zeros((len(images), self.width), np.float32)
        signatures = np.zeros((len(images), SIGNATURE_SIDE**2), np.uint8)
        if len(good):
            (batch,) = eval_batches(images.take(good), self._frozen.preprocessing, BATCH)
            embeddings[good], signatures[good], _ = self._vectors(batch)
        return Vectors(embeddings, signatures, errors)


def _until_broken(batches: tf.data.Dataset) -> typing.Iterator[tf.Tensor]:
    """Yields batches up to the first one with a file that cannot be read."""
    with contextlib.suppress(tf.errors.OpError):
        yield from batches


def unreadable(path: str, value_range: tuple[float, float] | None = None, channels: int = 3) -> str:
    """Returns why an image file cannot be read, without its path; empty if it can.

    Args:
        path, value_range, channels: as for `sit_keras.data.reading.read_image`.
    """
    try:
        read_image(path, value_range=value_range, channels=channels)
    except OSError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
