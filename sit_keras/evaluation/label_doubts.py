"""Labels that the nearest neighbours of an image contradict.

Shapes: N images, E features, K classes.
"""

import typing

import numpy as np

from sit_keras.data.images import NO_LABEL
from sit_keras.evaluation.features import unit
from sit_keras.evaluation.similarity import nearest


class Doubt(typing.NamedTuple):
    """An image whose neighbours have another label.

    Args:
        row: int. Of the image.
        label: int. Its label.
        suggested: int. The label that most of its neighbours have.
        agreement: float. The share of the neighbours that have the suggested label.
    """

    row: int
    label: int
    suggested: int
    agreement: float


def contradicted_labels(
    features: np.ndarray, labels: np.ndarray, k: int = 10, agreement: float = 0.7
) -> list[Doubt]:
    """Finds labels that the k nearest neighbours of an image contradict.

    The neighbours are those by the cosine of the features without their mean, among the labelled
    images and without the image itself (Wilson 1972's edited nearest neighbours).

    Args:
        features: (N, E) float32, of a frozen encoder.
        labels: (N,) int; `NO_LABEL` (-1) marks an image without one, which is left out.
        k: int. Neighbours to look at; fewer where there are not as many images.
        agreement: float. The least share of them that must have one and the same other label.

    Returns:
        The doubtful labels, those that the most neighbours contradict first.

    Raises:
        ValueError: if there are not as many labels as features, or k or the share is impossible.
    """
    if len(features) != len(labels):
        raise ValueError(f"There are {len(features)} features, and {len(labels)} labels for them.")
    if k < 1 or not 0.5 < agreement <= 1:
        raise ValueError(
            "Labels are contradicted by k >= 1 neighbours of which a share above 0.5 and up to 1 "
            f"agree; received k={k}, agreement={agreement}."
        )
    rows = np.flatnonzero(np.asarray(labels) != NO_LABEL)
    k = min(k, len(rows) - 1)
    if k < 1:
        return []
    known, x = np.asarray(labels)[rows], features[rows]
    x = unit(x - x.mean(axis=0))
    found, _ = nearest(x, x, k + 1)
    # An image need not be the first of its own neighbours where others are equal to it.
    is_itself = found == np.arange(len(x))[:, None]
    is_itself[~is_itself.any(axis=1), -1] = True
    others = known[found[~is_itself].reshape(len(x), k)]
    doubts = []
    for row, label, votes in zip(rows.tolist(), known.tolist(), others, strict=True):
        values, counts = np.unique(votes, return_counts=True)
        suggested, share = int(values[counts.argmax()]), float(counts.max() / k)
        if suggested != label and share >= agreement:
            doubts.append(Doubt(row, label, suggested, share))
    return sorted(doubts, key=lambda doubt: -doubt.agreement)
