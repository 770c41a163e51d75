"""Which classes are recognised, and what the others are taken for.

Shapes: K classes.
"""

import typing

import numpy as np

from sit_keras.data.images import NO_LABEL
from sit_keras.runs.results import percent
from sit_keras.workflows.explored import Explored

CLASS_HEADING = ("class", "images", "right", "most often taken for")


def class_rows(
    confusion: np.ndarray, names: typing.Sequence[str]
) -> list[tuple[str, str, str, str]]:
    """Returns a row for each class with an image, the least recognised first.

    Args:
        confusion: (K, K) int, whose rows are the true classes.
        names: K names.

    Returns:
        Rows under `CLASS_HEADING`.
    """
    counts, right = confusion.sum(axis=1), np.diag(confusion)
    present = np.flatnonzero(counts)
    rows = []
    for i in present[np.argsort(right[present] / counts[present], kind="stable")]:
        wrong = np.where(np.arange(len(names)) == i, 0, confusion[i])
        other = int(wrong.argmax())
        taken = f"{names[other]} ({wrong[other]})" if wrong[other] else ""
        share = percent({"right": right[i] / counts[i]}, "right")
        rows.append((names[i], f"{counts[i]:,}", share, taken))
    return rows


def confusion_of_neighbours(explored: Explored) -> np.ndarray:
    """Returns the confusion matrix (K, K) of the neighbours' vote about the images of a map."""
    count = len(explored.class_names)
    known = (explored.labels != NO_LABEL) & (explored.map.votes != NO_LABEL)
    confusion = np.zeros((count, count), int)
    np.add.at(confusion, (explored.labels[known], explored.map.votes[known]), 1)
    return confusion
