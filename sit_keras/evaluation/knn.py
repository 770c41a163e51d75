"""Nearest-neighbour classification in the space of frozen features.

Shapes: N images, E features, K classes.
"""

import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.progress import Progress
from sit_keras.evaluation.features import unit

# Similarities that are held at a time, 128 MiB of float32.
MAX_SIMILARITIES = 2**25


def knn_predictions(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    ks: typing.Sequence[int] = (20,),
    temperature: float = 0.07,
    block: int | None = None,
) -> dict[int, np.ndarray]:
    """Classifies by the votes of the k most similar training images, weighted by exp(cos / T).

    Of training images that are equally similar the first ones count.

    Args:
        train, test: (N, E) float32 features.
        train_labels: (N,) int.
        ks: numbers of neighbours to try.
        temperature: float. T; 0.07 is Wu et al. 2018's.
        block: int or None. Test images compared at a time; None for as many as keep the
            similarities within `MAX_SIMILARITIES`.

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
    block = block or max(1, MAX_SIMILARITIES // len(train))
    num_classes = int(train_labels.max()) + 1
    predicted: dict[int, list] = {k: [] for k in ks}
    # Not on a GPU, which rounds the factors of products to ten bits.
    with tf.device("CPU"), Progress("nearest neighbours", len(test)) as progress:
        bank = tf.constant(train)
        for start in range(0, len(test), block):
            similarity = tf.matmul(test[start : start + block], bank, transpose_b=True)
            closeness, nearest = (x.numpy() for x in tf.math.top_k(similarity, max(ks)))
            weights = np.exp(closeness / temperature)  # (block, k)
            # The votes of an image are those of its own K classes.
            cells = train_labels[nearest] + num_classes * np.arange(len(nearest))[:, None]
            for k in ks:
                votes = np.bincount(
                    cells[:, :k].ravel(), weights[:, :k].ravel(), num_classes * len(nearest)
                )
                predicted[k].append(votes.reshape(-1, num_classes).argmax(axis=1))
            progress.advance(len(nearest))
    return {k: np.concatenate(parts) for k, parts in predicted.items()}
