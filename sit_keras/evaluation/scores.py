"""What a classifier got right."""

import pathlib

import numpy as np
from sklearn.metrics import confusion_matrix

from sit_keras.data.images import ImageSet
from sit_keras.plots import charts


def scores(guesses: np.ndarray, test: ImageSet, folder: pathlib.Path) -> dict:
    """Counts what was guessed right, and draws `confusion.png`.

    Args:
        guesses: (N,) int.
        test: ImageSet, all labelled.
        folder: pathlib.Path. Made if it is not there.

    Returns:
        `accuracy`, `per_class` accuracies and the `confusion` matrix, its rows the true classes.
    """
    labels, names = test.class_labels(), test.class_names
    confusion = confusion_matrix(labels, guesses, labels=np.arange(len(names)))
    folder.mkdir(parents=True, exist_ok=True)
    charts.confusion_sheet(confusion, names, folder / "confusion.png")
    right, present = np.diag(confusion), confusion.sum(axis=1)
    return {
        "accuracy": float(np.mean(guesses == labels)),
        "per_class": {
            name: float(right[i] / present[i]) for i, name in enumerate(names) if present[i]
        },
        "confusion": confusion.tolist(),
    }
