"""A linear probe: logistic regression on frozen features."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Inverse strengths of the l2 penalty, tried in this order until the accuracy falls.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def linear_accuracy(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    seed: int = 0,
) -> float:
    """Fits a logistic regression on standardised features; its penalty is chosen on training data.

    Args:
        train, test: (N, E) float32 features.
        train_labels, test_labels: (N,) int.
        seed: int. Of the fifth of the training data that chooses the penalty.

    Returns:
        The share of test images classified right, in [0, 1].
    """
    counts = np.unique(train_labels, return_counts=True)[1]
    stratify = train_labels if counts.min() >= 2 and len(train) >= 5 * len(counts) else None
    fit, choose = train_test_split(
        np.arange(len(train)), test_size=0.2, stratify=stratify, random_state=seed
    )

    best, best_score = STRENGTHS[0], 0.0
    for strength in STRENGTHS:
        model = _fit(train[fit], train_labels[fit], strength)
        score = model.score(train[choose], train_labels[choose])
        if score < best_score:
            break
        best, best_score = strength, score
    return float(_fit(train, train_labels, best).score(test, test_labels))


def _fit(features, labels, strength):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are enough for a probe
        return model.fit(features, labels)
