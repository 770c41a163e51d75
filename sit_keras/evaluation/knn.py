"""Nearest neighbours in the space of frozen features."""

import numpy as np


def knn_accuracy(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
    block: int = 1024,
) -> float:
    """Classifies by the votes of the k most similar training images, weighted by exp(cos / T).

    Args:
        train, test: (N, E) float32 features.
        train_labels, test_labels: (N,) int.
        k: int. Neighbours; fewer where there are fewer training images.
        temperature: float. T; 0.07 is Wu et al. 2018's.
        block: int. Test images compared at a time, so that memory stays bounded.

    Returns:
        The share of test images classified right, in [0, 1].
    """
    train, test = _unit(train), _unit(test)
    k = min(k, len(train))
    one_hot = np.eye(int(train_labels.max()) + 1)[train_labels]  # (N, classes)
    hits = 0
    for start in range(0, len(test), block):
        similarity = test[start : start + block] @ train.T  # (block, N)
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weights = np.exp(np.take_along_axis(similarity, nearest, axis=1) / temperature)
        votes = np.einsum("bk,bkc->bc", weights, one_hot[nearest])
        hits += int(np.sum(votes.argmax(axis=1) == test_labels[start : start + block]))
    return hits / len(test)


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
