"""Nearest-neighbour accuracy after each epoch."""

import keras
import numpy as np

from sit_keras.data.images import ImageSet
from sit_keras.evaluation.baselines import NEIGHBOURS
from sit_keras.evaluation.features import FrozenFeatures, kept_batches, select_features
from sit_keras.evaluation.knn import knn_predictions


class NearestNeighbours(keras.callbacks.Callback):
    """Adds `knn_accuracy` to the epoch's logs.

    It is the accuracy with which held-out images are classified by their nearest training images
    in the space of both tokens.

    Args:
        train: ImageSet, all labelled.
        held_out: ImageSet, all labelled.
        features: FrozenFeatures of the encoder that is trained, to trace it only once.
    """

    def __init__(self, train: ImageSet, held_out: ImageSet, features: FrozenFeatures | None = None):
        super().__init__()
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
        train, held_out = (
            select_features(self._features(batches), "tokens") for batches in self._batches
        )
        train_labels, held_out_labels = self._labels
        k = min(NEIGHBOURS, len(train))
        predicted = knn_predictions(train, train_labels, held_out, [k])[k]
        logs["knn_accuracy"] = float(np.mean(predicted == held_out_labels))
