"""Linear evaluation: a head on each kind of frozen features, whose logits are averaged.

Shapes: N images, E features, J hidden units, K classes.
"""

import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sit_keras.config.progress import Progress
from sit_keras.evaluation.features import Features

# Inverse strengths of the l2 penalty, tried in this order until the accuracy falls.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
MAX_STEPS = 200  # enough for a probe
MLP_BATCH = 200
NEVER = -1e9  # the logit of a class that had no image to learn from


@dataclasses.dataclass(frozen=True)
class TokenHeads:
    """A linear head on each of several features of an image, or one with a tanh layer before it.

    Each head minimises its own cross-entropy, which minimises their sum, and the logits are
    averaged, as the paper does with its two tokens.

    Args:
        layers: by the name of the feature, a (kernel, bias) pair for each layer: (E, K) and (K,),
            or (E, J) and (J,), then (J, K) and (K,), all float32.
        strength: float. The inverse strength of the l2 penalty on standardised features.
    """

    layers: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    strength: float

    def logits(self, features: Features) -> np.ndarray:
        """Returns the averaged logits (N, K) of features whose names are those of the heads."""
        each = []
        for name, (*hidden, last) in self.layers.items():
            x = features[name]
            for kernel, bias in hidden:
                x = np.tanh(x @ kernel + bias)
            each.append(x @ last[0] + last[1])
        return np.mean(each, axis=0)

    def predict(self, features: Features) -> np.ndarray:
        """Returns the predicted classes (N,) int."""
        return self.logits(features).argmax(axis=1)

    def accuracy(self, features: Features, labels: np.ndarray) -> float:
        """Returns the share of images classified correctly, in [0, 1]."""
        return float(np.mean(self.predict(features) == labels))


def fit_heads(
    features: Features,
    labels: np.ndarray,
    seed: int = 0,
    hidden_dim: int | None = None,
    num_classes: int | None = None,
) -> TokenHeads:
    """Fits a logistic regression, or a network of one hidden layer, to each kind of features.

    The strength of the penalty is chosen on a fifth of the training images, which is held out while
    it is chosen. The image of a class that has only one is not held out. Test images are not used.

    Args:
        features: by the name of the feature, (N, E) float32.
        labels: (N,) int.
        seed: int. Of the choice of that fifth, and of a hidden layer's first weights.
        hidden_dim: int or None. Units J of a tanh layer (the paper's variant has 1024); None for
            the logistic regression.
        num_classes: int or None. K; None is one more than the largest label. A class without an
            image is never predicted.

    Returns:
        TokenHeads.

    Raises:
        ValueError: if fewer than two classes have an image.
    """
    num_classes = num_classes or int(labels.max()) + 1
    counts = np.bincount(labels, minlength=num_classes)
    if np.count_nonzero(counts) < 2:
        raise ValueError(
            f"A classifier needs at least two classes with images in each, received {counts} "
            "images of the classes 0, 1, ...: use more labels."
        )
    fitted, held_out = _fifth(labels, counts, seed)
    part, rest = ({name: x[rows] for name, x in features.items()} for rows in (fitted, held_out))
    best, best_score = STRENGTHS[0], 0.0
    with Progress("linear heads", unit="penalties tried") as progress:
        # Else there are too few images to choose on.
        if len(held_out) and np.array_equal(np.unique(labels[fitted]), np.flatnonzero(counts)):
            for strength in STRENGTHS:
                heads = _fit(part, labels[fitted], num_classes, strength, seed, hidden_dim)
                score = heads.accuracy(rest, labels[held_out])
                progress.advance()
                if score < best_score:
                    break
                best, best_score = strength, score
        return _fit(features, labels, num_classes, best, seed, hidden_dim)


def _fifth(labels, counts, seed):
    """Returns the rows of four fifths of the images, and those of the fifth that is held out."""
    alone = np.flatnonzero(counts[labels] == 1)
    others = np.flatnonzero(counts[labels] > 1)
    if not len(others):
        return alone, others
    classes = np.count_nonzero(counts > 1)
    stratify = labels[others] if len(others) >= 5 * classes else None
    fitted, held_out = train_test_split(others, test_size=0.2, stratify=stratify, random_state=seed)
    return np.concatenate([fitted, alone]), held_out


def _fit(features, labels, num_classes, strength, seed, hidden_dim) -> TokenHeads:
    def fit(x):
        if hidden_dim is None:
            estimator = LogisticRegression(C=strength, max_iter=MAX_STEPS)
        else:
            batch = min(MLP_BATCH, len(x))
            estimator = MLPClassifier(
                (hidden_dim,),
                "tanh",
                alpha=batch / (strength * len(x)),  # which scikit-learn divides by the batch
                batch_size=batch,
                max_iter=MAX_STEPS,
                random_state=seed,
            )
        model = make_pipeline(StandardScaler(), estimator).fit(x, labels)
        return _layers(*model, num_classes)

    # NumPy's threads and SciPy's wait for each other: a single thread is two to seven times faster,
    # so that the heads are fitted side by side instead.
    with warnings.catch_warnings(), threadpool_limits(1), ThreadPoolExecutor(len(features)) as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)
        layers = dict(zip(features, pool.map(fit, features.values()), strict=True))
    return TokenHeads(layers, strength)


def _layers(scaler, estimator, num_classes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the (kernel, bias) pairs of a fitted estimator, the first of which also scales.

    The last of them has a logit for each class, also for those that the estimator has not seen.
    """
    if isinstance(estimator, LogisticRegression):
        layers = [(estimator.coef_.T, estimator.intercept_)]
    else:
        layers = list(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    kernel, bias = layers[0]
    kernel = kernel / scaler.scale_[:, None]
    layers[0] = kernel, bias - scaler.mean_ @ kernel
    if layers[-1][1].shape == (1,):  # for two classes scikit-learn gives one logit
        kernel, bias = (np.concatenate([-x / 2, x / 2], axis=-1) for x in layers[-1])
        layers[-1] = kernel, bias
    if len(estimator.classes_) < num_classes:
        kernel, bias = layers[-1]
        every = np.zeros((len(kernel), num_classes)), np.full(num_classes, NEVER)
        every[0][:, estimator.classes_], every[1][estimator.classes_] = kernel, bias
        layers[-1] = every
    return [(kernel.astype("float32"), bias.astype("float32")) for kernel, bias in layers]
