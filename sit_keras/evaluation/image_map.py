"""What a map of images needs: where they lie, their neighbours, groups, and the neighbours' vote.

Shapes: N images, E features, K neighbours.
"""

import dataclasses

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from sit_keras.data.images import NO_LABEL
from sit_keras.evaluation.feature_plane import feature_plane
from sit_keras.evaluation.features import unit

NEIGHBOURS = 10
# Groups where there are no classes to count, and at most.
GROUPS, MAX_GROUPS = 8, 20


@dataclasses.dataclass(frozen=True)
class ImageMap:
    """Images as points of a plane, with what is known about each.

    Args:
        plane: (N, 2) float32.
        neighbours: (N, K) int. The most similar images first, none of them the image itself.
        cosines: (N, K) float32. Their similarity, of the features without their mean.
        groups: (N,) int. By k-means.
        votes: (N,) int. The label that most of its labelled neighbours have, the nearer one of two
            equals; `NO_LABEL` where none of them has a label.
    """

    plane: np.ndarray
    neighbours: np.ndarray
    cosines: np.ndarray
    groups: np.ndarray
    votes: np.ndarray


def image_map(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> ImageMap:
    """Lays images out by their features, and compares each with its neighbours.

    Args:
        features: (N, E) float32.
        labels: (N,) int; `NO_LABEL` (-1) for an image without one.
        seed: int. Of the layout and of the groups.
    """
    count = len(features)
    x = unit(features - features.mean(axis=0))
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    k = min(NEIGHBOURS, count - 1)
    neighbours = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    votes = np.array([_vote(each) for each in labels[neighbours]], int).reshape(count)
    return ImageMap(
        feature_plane(features, seed),
        neighbours,
        np.take_along_axis(cosines, neighbours, axis=1),
        _groups(x, labels, seed),
        votes,
    )


def _vote(labels):
    """Returns the most frequent label, of several the one that comes first."""
    known = labels[labels != NO_LABEL].tolist()
    return max(known, key=known.count) if known else NO_LABEL


def _groups(x, labels, seed):
    """Returns the group of each image: as many groups as there are classes, or `GROUPS`."""
    classes = len(np.unique(labels[labels != NO_LABEL]))
    wanted = min(classes, MAX_GROUPS) if classes > 1 else GROUPS
    wanted = min(wanted, len(np.unique(x.round(6), axis=0)))
    with threadpool_limits(1):
        return KMeans(wanted, n_init=3, random_state=seed).fit_predict(x)
