"""Scores of a classifier on test images."""

import pathlib

import numpy as np
from sklearn.metrics import confusion_matrix

from sit_keras.data.images import ImageSet
from sit_keras.plots import charts


def scores(predicted: np.ndarray, test: ImageSet, folder: pathlib.Path) -> dict:
    """Compares predicted classes with the labels, and writes `confusion.png`.

    Args:
        predicted: (N,) int.
        test: ImageSet, all labelled.
        folder: pathlib.Path. Made if it does not exist.

    Returns:
        `accuracy`, `per_class` accuracies, and the `confusion` matrix, whose rows are the true
        classes.
    """
    labels, names = test.class_labels(), test.class_names
    confusion = confusion_matrix(labels, predicted, labels=np.arange(len(names)))
    folder.mkdir(parents=True, exist_ok=True)
    charts.confusion_sheet(confusion, names, folder / "confusion.png")
    correct, present = np.diag(confusion), confusion.sum(axis=1)
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "per_class": {
            name: float(correct[i] / present[i]) for i, name in enumerate(names) if present[i]
        },
        "confusion": confusion.tolist(),
    }
