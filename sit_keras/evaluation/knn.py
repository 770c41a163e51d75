"""Nearest-neighbour classification in the space of frozen features.

Shapes: N images, E features, K classes.
"""

import typing

import numpy as np

from sit_keras.evaluation.features import unit


def knn_predictions(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    ks: typing.Sequence[int] = (20,),
    temperature: float = 0.07,
    block: int = 1024,
) -> dict[int, np.ndarray]:
    """Classifies by the votes of the k most similar training images, weighted by exp(cos / T).

    Args:
        train, test: (N, E) float32 features.
        train_labels: (N,) int.
        ks: numbers of neighbours to try.
        temperature: float. T; 0.07 is Wu et al. 2018's.
        block: int. Test images compared at a time, so that memory stays bounded.

    Returns:
        For each k the predicted classes of the test images, (N,) int.

    Raises:
        ValueError: if a k is not positive, or larger than the number of training images.
    """
    impossible = [k for k in ks if not 1 <= k <= len(train)]
    if impossible or not ks:
        raise ValueError(
            f"Numbers of neighbours must lie between 1 and the {len(train)} training images, "
            f"received {list(ks)}."
        )
    train, test = unit(train), unit(test)
    one_hot = np.eye(int(train_labels.max()) + 1)[train_labels]  # (N, K)
    predicted = {k: [] for k in ks}
    for start in range(0, len(test), block):
        similarity = test[start : start + block] @ train.T  # (block, N)
        largest = max(ks)
        nearest = np.argpartition(-similarity, largest - 1, axis=1)[:, :largest]
        closeness = np.take_along_axis(similarity, nearest, axis=1)
        order = np.argsort(-closeness, axis=1)
        nearest, closeness = (np.take_along_axis(x, order, axis=1) for x in (nearest, closeness))
        votes = np.exp(closeness / temperature)[..., None] * one_hot[nearest]  # (block, k, K)
        for k in ks:
            predicted[k].append(votes[:, :k].sum(axis=1).argmax(axis=1))
    return {k: np.concatenate(parts) for k, parts in predicted.items()}
