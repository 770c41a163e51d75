"""Scores of a classifier on test images, with intervals.

Shapes: N images, K classes, P classes that have a test image, R resamples.
"""

import functools
import pathlib

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from sit_keras.config.files import make_own_folder
from sit_keras.data.images import ImageSet
from sit_keras.plots import charts

SCORES = (
    "accuracy",
    "accuracy_interval",
    "balanced_accuracy",
    "balanced_accuracy_interval",
    "macro_f1",
)
RESAMPLES = 1_000
PERCENTILES = (2.5, 97.5)
# Classes of a confusion matrix in `results.json`, which is read in one piece.
MAX_CONFUSION = 1_000


def score(predicted: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict:
    """Compares predicted classes with the labels.

    Args:
        predicted: (N,) int.
        labels: (N,) int, N >= 1.
        seed: int. Of the resamples.

    Returns:
        A dict of shares in [0, 1]: `accuracy`; `balanced_accuracy`, the mean over classes of the
        share of their images that are classified correctly; `macro_f1`, the mean of the classes'
        F1; and `accuracy_interval` and `balanced_accuracy_interval`, the lower and the upper end
        of the 95 % percentile intervals. Classes without a test image count in no mean.

    Reference:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    present, classes = np.unique(labels, return_inverse=True)
    is_right = predicted == labels
    # Balanced accuracy is the macro recall.
    _, balanced, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=present, average="macro", zero_division=0
    )
    right, wrong = (np.bincount(classes[rows], minlength=len(present))
                    for rows in (is_right, ~is_right))  # fmt: skip
    accuracies, balanced_accuracies = _resample(right, wrong, seed)
    return {
        "accuracy": float(np.mean(is_right)),
        "accuracy_interval": np.percentile(accuracies, PERCENTILES).tolist(),
        "balanced_accuracy": float(balanced),
        "balanced_accuracy_interval": np.percentile(balanced_accuracies, PERCENTILES).tolist(),
        "macro_f1": float(f1),
    }


def _resample(right, wrong, seed):
    """Returns the accuracies (R,) and the balanced accuracies (R,) of bootstrap resamples.

    How many of the images of a resample are right is binomial, so no image need be drawn. For the
    balanced accuracy each class is resampled by itself: otherwise some resamples would lack a rare
    class, and be judged without it.

    Args:
        right, wrong: (P,) int. Images of each class that are classified correctly, or not.
        seed: int.
    """
    generator = np.random.default_rng(seed)
    of_class = right + wrong
    count = of_class.sum()
    accuracies = generator.binomial(count, right.sum() / count, RESAMPLES) / count
    recalls = generator.binomial(of_class, right / of_class, (RESAMPLES, len(right))) / of_class
    return accuracies, recalls.mean(axis=1)


def gain(predicted: np.ndarray, other: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict:
    """Compares two classifiers on the same test images, so that what is hard for both cancels.

    Args:
        predicted, other: (N,) int. What each of them predicts.
        labels: (N,) int, N >= 1.
        seed: int. Of the resamples.

    Returns:
        A dict of differences, the first less the other: `accuracy` and `balanced_accuracy`, shares
        in [-1, 1], and `accuracy_interval` and `balanced_accuracy_interval`, the ends of the paired
        95 % percentile intervals.
    """
    difference = (predicted == labels).astype(int) - (other == labels)  # (N,) -1, 0 or 1
    present, classes = np.unique(labels, return_inverse=True)
    outcomes = np.stack(
        [np.bincount(classes[difference == i], minlength=len(present)) for i in (-1, 0, 1)], axis=1
    )  # (P, 3) images
    of_class = outcomes.sum(axis=1)
    # Each class is resampled by itself, as in `_resample`.
    drawn = np.random.default_rng(seed).multinomial(
        of_class, outcomes / of_class[:, None], (RESAMPLES, len(present))
    )
    means = ((drawn[..., 2] - drawn[..., 0]) / of_class).mean(axis=1)
    return {
        "accuracy": float(difference.mean()),
        "accuracy_interval": list(mean_interval(difference, seed)),
        "balanced_accuracy": float(np.mean((outcomes[:, 2] - outcomes[:, 0]) / of_class)),
        "balanced_accuracy_interval": np.percentile(means, PERCENTILES).tolist(),
    }


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a mean over test images, which are resampled.

    Of two classifiers on the same images, `values` may be the differences: the interval is that of
    the paired comparison.

    Args:
        values: (N,) float. Of each image, such as the share of seeds that classify it correctly.
        seed: int. Of the resamples.
    """
    low, high = np.percentile(_shares(len(values), seed) @ values, PERCENTILES)
    return float(low), float(high)


@functools.lru_cache(maxsize=1)
def _shares(count, seed):
    """Returns the share of each image in the resamples, (R, N) float32."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return (drawn / count).astype("float32")


def scores(predicted: np.ndarray, test: ImageSet, folder: pathlib.Path) -> dict:
    """Compares predicted classes with the labels, and writes `confusion.png`.

    Args:
        predicted: (N,) int.
        test: ImageSet, all labelled.
        folder: pathlib.Path. Made if it does not exist.

    Returns:
        What `score` returns, `per_class` accuracies, and the `confusion` matrix (K, K), whose rows
        are the true classes, for up to `MAX_CONFUSION` of them.
    """
    labels, names = test.class_labels(), test.class_names
    confusion = confusion_matrix(labels, predicted, labels=np.arange(len(names)))
    charts.confusion_sheet(confusion, names, make_own_folder(folder) / "confusion.png")
    correct, present = np.diag(confusion), confusion.sum(axis=1)
    found = {
        **score(predicted, labels),
        "per_class": {
            name: float(correct[i] / present[i]) for i, name in enumerate(names) if present[i]
        },
    }
    if len(names) > MAX_CONFUSION:
        print(f"The confusion matrix of {len(names):,} classes is too large to be written down.")
        return found
    return {**found, "confusion": confusion.tolist()}


def largest_class_scores(train: ImageSet, test: ImageSet) -> dict:
    """Returns what a classifier scores that always answers the largest class of `train`.

    Args:
        train, test: ImageSet, all labelled, of the same classes.

    Returns:
        What `score` returns, and the name of the `class`.
    """
    largest = int(np.bincount(train.class_labels()).argmax())
    predicted = np.full(len(test), largest)
    return {"class": train.class_names[largest], **score(predicted, test.class_labels())}
