"""Nearest-neighbour accuracy after epochs."""

import keras
import numpy as np

from sit_keras.data.images import ImageSet
from sit_keras.evaluation.baselines import NEIGHBOURS
from sit_keras.evaluation.features import FrozenFeatures, kept_batches, select_features
from sit_keras.evaluation.knn import knn_predictions
from sit_keras.training.callbacks import is_due


class NearestNeighbours(keras.callbacks.Callback):
    """Adds `knn_accuracy` to the epoch's logs.

    It is the accuracy with which held-out images are classified by their nearest training images
    in the space of both tokens.

    Args:
        train: ImageSet, all labelled.
        held_out: ImageSet, all labelled.
        features: FrozenFeatures of the encoder that is trained, to trace it only once.
        every, epochs: as for `TaskGradients`.
    """

    def __init__(
        self,
        train: ImageSet,
        held_out: ImageSet,
        features: FrozenFeatures | None = None,
        every: int = 1,
        epochs: int | None = None,
    ):
        super().__init__()
        self._every = every
        self._epochs = epochs
        self._labels = train.class_labels(), held_out.class_labels()
        self._images = train, held_out
        self._features = features

    def set_model(self, model):
        super().set_model(model)
        if self._features is None or self._features.encoder is not model.backbone:
            self._features = FrozenFeatures(model.backbone)
        preprocessing = self._features.preprocessing
        self._batches = [kept_batches(images, preprocessing) for images in self._images]

    def on_epoch_end(self, epoch, logs=None):
        due = is_due(epoch, self._every, self._epochs)
        logs["knn_accuracy"] = self._accuracy() if due else float("nan")

    def _accuracy(self):
        train, held_out = (
            select_features(self._features(batches, len(images)), "tokens")
            for batches, images in zip(self._batches, self._images, strict=True)
        )
        train_labels, held_out_labels = self._labels
        k = min(NEIGHBOURS, len(train))
        predicted = knn_predictions(train, train_labels, held_out, [k])[k]
        return float(np.mean(predicted == held_out_labels))
