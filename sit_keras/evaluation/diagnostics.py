"""Representation diagnostics: how far features are spread, and how they change with the view.

Shapes: N images, E features.
"""

import numpy as np

from sit_keras.evaluation.features import Features, unit

# What each measure ranges over, and which end is better.
MEASURES = {
    "spread": "0 to 1, higher is better",
    "effective_rank": "from 1, higher is better",
    "alignment": "0 to 4, lower is better",
    "uniformity": "-4 to 0, lower is better",
}


def measures(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Returns all of `MEASURES` by their names.

    Args:
        features: (N, E) float32.
        first, second: (M, E) float32. Of two views of each of M images.
    """
    return {
        "spread": spread(features),
        "effective_rank": effective_rank(features),
        "alignment": alignment(first, second),
        "uniformity": uniformity(features),
    }


def measure_text(name: str, values: dict) -> str:
    """Returns what a measure is, how it is read, and what the untrained network has.

    Args:
        name: str. One of `MEASURES`.
        values: as of `representation_diagnostics`, perhaps of a version without `untrained`.
    """
    text = f"{name.replace('_', ' ')} ({MEASURES[name]}"
    untrained = values.get("untrained", {}).get(name)
    return f"{text})" if untrained is None else f"{text}; untrained {untrained:.3f})"


def token_spread(features: Features) -> dict[str, float]:
    """Returns the `spread` of each of several features, by their names.

    Args:
        features: by the name of the feature, (N, E) float32.
    """
    return {name: spread(values) for name, values in features.items()}


def spread(features: np.ndarray) -> float:
    """Measures collapse: the mean deviation of a dimension of unit vectors, times sqrt(E).

    Args:
        features: (N, E) float32.

    Returns:
        About 1 where the vectors fill the sphere, 0 where they are all the same.

    Reference:
        Chen and He 2021, Exploring Simple Siamese Representation Learning, figure 2.
    """
    return float(unit(features).std(axis=0).mean() * np.sqrt(features.shape[1]))


def effective_rank(features: np.ndarray) -> float:
    """Measures how many dimensions are used: exp of the entropy of the singular values' shares.

    Args:
        features: (N, E) float32.

    Returns:
        Between 1 and min(N, E).

    Reference:
        Roy and Vetterli 2007, The effective rank: a measure of effective dimensionality.
    """
    centred = features - features.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    shares = values / max(values.sum(), 1e-12)
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Measures the mean squared distance between the unit features of two views of each image.

    Args:
        first, second: (N, E) float32.

    Returns:
        Between 0, where the features do not depend on the view, and 4.

    Reference:
        Wang and Isola 2020, Understanding Contrastive Representation Learning, equation 1.
    """
    return float(np.mean(np.sum(np.square(unit(first) - unit(second)), axis=1)))


def uniformity(features: np.ndarray) -> float:
    """Measures the log of the mean of exp(-2 d^2) over pairs of different unit features.

    Args:
        features: (N, E) float32; memory grows with N^2.

    Returns:
        0 where all are the same, or there is only one; about -4 where they lie evenly on a sphere
        of many dimensions.

    Reference:
        Wang and Isola 2020, equation 2.
    """
    if len(features) < 2:
        return 0.0
    x = unit(features).astype("float64")
    potential = np.exp(-4 * (1 - x @ x.T))  # |x - y|^2 = 2 - 2 x.y
    count = len(x)
    return float(np.log((potential.sum() - np.trace(potential)) / (count * (count - 1))))
