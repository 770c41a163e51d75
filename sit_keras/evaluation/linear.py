"""Linear evaluation: a linear head on each frozen feature, their logits averaged.

Shapes: N images, E features, K classes.
"""

import dataclasses
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sit_keras.evaluation.features import Features

# Inverse strengths of the l2 penalty, tried in this order until the accuracy falls.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class LinearHeads:
    """A linear head on each of several features of an image.

    Each head minimises its own cross-entropy, so that their sum is minimised, and their logits are
    averaged, as the paper does with its two tokens.

    Args:
        kernels: by the name of the feature, (E, K) float32.
        biases: by the name of the feature, (K,) float32.
        strength: float. The inverse strength of the l2 penalty on standardised features.
    """

    kernels: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]
    strength: float

    def logits(self, features: Features) -> np.ndarray:
        """Returns the averaged logits (N, K) of features that have the names of the heads."""
        each = [
            features[name] @ kernel + self.biases[name] for name, kernel in self.kernels.items()
        ]
        return np.mean(each, axis=0)

    def accuracy(self, features: Features, labels: np.ndarray) -> float:
        """Returns the share of images classified right, in [0, 1]."""
        return float(np.mean(self.logits(features).argmax(axis=1) == labels))


def fit_linear_heads(features: Features, labels: np.ndarray, seed: int = 0) -> LinearHeads:
    """Fits a logistic regression to each feature until it converges.

    The strength of their penalty is the best for a fifth of the training images that is left out
    at first; test images have no say in it.

    Args:
        features: by their name, (N, E) float32.
        labels: (N,) int. Every class from 0 to the largest must occur.
        seed: int. Of the fifth that chooses.

    Raises:
        ValueError: if a class has no image.
    """
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.min() == 0:
        raise ValueError(
            f"A classifier needs at least two classes with images in each, received {counts} "
            "images of the classes 0, 1, ...: use more labels."
        )
    stratify = labels if counts.min() >= 2 and len(labels) >= 5 * len(counts) else None
    fit, choose = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=stratify, random_state=seed
    )
    part, rest = ({name: x[rows] for name, x in features.items()} for rows in (fit, choose))
    best, best_score = STRENGTHS[0], 0.0
    if len(np.unique(labels[fit])) == len(counts):  # else there are too few images to choose by
        for strength in STRENGTHS:
            heads = _fit(part, labels[fit], strength)
            score = heads.accuracy(rest, labels[choose])
            if score < best_score:
                break
            best, best_score = strength, score
    return _fit(features, labels, best)


def _fit(features, labels, strength):
    kernels, biases = {}, {}
    for name, x in features.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are enough for a probe
            model.fit(x, labels)
        scaler, regression = model[0], model[1]
        kernel = (regression.coef_ / scaler.scale_).T  # (E, K), or (E, 1) for two classes
        bias = regression.intercept_ - scaler.mean_ @ kernel
        if kernel.shape[1] == 1:  # scikit-learn has the logit of the second class alone
            kernel, bias = (np.concatenate([-x / 2, x / 2], axis=-1) for x in (kernel, bias))
        kernels[name], biases[name] = kernel.astype("float32"), bias.astype("float32")
    return LinearHeads(kernels, biases, strength)
