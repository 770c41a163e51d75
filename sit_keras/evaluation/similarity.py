"""How similar embeddings are, computed exactly in blocks.

Shapes: N, M, Q images, E features, P pairs, S pixels of a signature.
"""

import typing

import numpy as np

from sit_keras.evaluation.features import unit
from sit_keras.evaluation.index import SIGNATURE_SIDE, Index

# Similarities that are held at a time, 64 MiB of float32.
MAX_SIMILARITIES = 2**24
# The mean of fewer images says more of them than of the encoder.
MIN_CENTRED = 10
# A list of more pairs helps nobody, and fills the memory.
MAX_PAIRS = 1_000_000
# Deviation of a signature, in levels of grey, below which an image has no pattern.
_MIN_DEVIATION = 2.0


class TooManyPairs(ValueError):
    """More pairs are similar than anybody could look at."""


class Pairs(typing.NamedTuple):
    """Pairs that are similar enough.

    Args:
        first, second: (P,) int. Rows of the two matrices.
        similarity: (P,) float32.
        closest: (M,) float32. For each row of the second matrix the similarity to the most similar
            row of the first, itself excepted; -1 where there is none.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    closest: np.ndarray


def mean_of(index: Index) -> np.ndarray | float:
    """Returns the mean embedding (E,) of an index; 0 of fewer than `MIN_CENTRED` distinct images.

    Embeddings of one encoder have most of their length in common, so that all cosines lie near 1.
    Without the mean they spread over the whole range.
    """
    rows = index.distinct()
    return index.embeddings[rows].mean(axis=0) if len(rows) >= MIN_CENTRED else 0.0


def directions(embeddings: np.ndarray, mean: np.ndarray | float) -> np.ndarray:
    """Returns embeddings (N, E) without a mean, scaled to length 1; their products are cosines."""
    return unit(embeddings - mean)


def nearest(queries: np.ndarray, bank: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the most similar rows.

    Args:
        queries: (Q, E) float32 of length 1.
        bank: (N, E) float32 of length 1.
        k: int. At most N.

    Returns:
        Rows of the bank (Q, k), the most similar first, and their cosines (Q, k).
    """
    block = max(1, MAX_SIMILARITIES // len(bank))
    rows, cosines = [], []
    for start in range(0, len(queries), block):
        similarity = queries[start : start + block] @ bank.T
        found = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
        values = np.take_along_axis(similarity, found, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows.append(np.take_along_axis(found, order, axis=1))
        cosines.append(np.take_along_axis(values, order, axis=1))
    return np.concatenate(rows), np.concatenate(cosines)


def similar_pairs(first: np.ndarray, second: np.ndarray | None, threshold: float) -> Pairs:
    """Finds all pairs that are at least so similar.

    Args:
        first: (N, E) float32 of length 1.
        second: (M, E) float32 of length 1, or None for pairs within `first`, each of them once.
        threshold: float. The least cosine.

    Raises:
        TooManyPairs: if there are more than `MAX_PAIRS`.
    """
    within = second is None
    second = first if second is None else second
    closest = np.full(len(second), -1, np.float32)
    block, found, count = max(1, MAX_SIMILARITIES // max(1, len(first))), [], 0
    for start in range(0, len(second), block):
        similarity = second[start : start + block] @ first.T  # (block, N)
        rows = np.arange(len(similarity))
        if within:
            similarity[rows, start + rows] = -1
        if similarity.size:
            closest[start + rows] = similarity.max(axis=1)
        later, earlier = np.nonzero(similarity >= threshold)
        keep = earlier < start + later if within else slice(None)
        later, earlier = later[keep], earlier[keep]
        count += len(later)
        if count > MAX_PAIRS:
            raise TooManyPairs(
                f"More than {MAX_PAIRS:,} pairs have a similarity of at least {threshold:g}: give "
                "a higher --threshold."
            )
        found.append((earlier, start + later, similarity[later, earlier]))
    nothing = ([np.zeros(0)] for _ in range(3))
    first_rows, second_rows, cosines = zip(*found, strict=True) if found else nothing
    return Pairs(
        np.concatenate(first_rows).astype(np.int64),
        np.concatenate(second_rows).astype(np.int64),
        np.concatenate(cosines).astype(np.float32),
        closest,
    )


def patterns(signatures: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """Returns signatures (N, S) as vectors of length 1, whose products are correlations.

    Images without a pattern, such as a white page, are zeros and correlate with nothing.

    Args:
        signatures: (N, S) uint8.
        mirrored: bool. Of the images mirrored left to right.
    """
    values = signatures.astype(np.float32)
    if mirrored:
        shape = (-1, SIGNATURE_SIDE, SIGNATURE_SIDE)
        values = values.reshape(shape)[:, :, ::-1].reshape(values.shape)
    values = values - values.mean(axis=1, keepdims=True)
    values[values.std(axis=1) < _MIN_DEVIATION] = 0
    return unit(values)
