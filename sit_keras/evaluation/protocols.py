"""Judging a frozen encoder on labelled images: linear evaluation, neighbours, health.

Shapes: N images, E features, K classes.
"""

import dataclasses
import functools
import pathlib
import typing

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from sit_keras import visualize
from sit_keras.backbone import SiTEncoder, build_classifier
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import step_views
from sit_keras.data.views import TwoViews
from sit_keras.evaluation import diagnostics
from sit_keras.evaluation.features import (
    Features,
    FrozenFeatures,
    head_features,
    select_features,
    unit,
)
from sit_keras.evaluation.knn import knn_accuracy
from sit_keras.evaluation.linear import LinearHeads, fit_linear_heads

# What a picture or a sum over all pairs can take in.
MAX_HEALTH = 2_000


@dataclasses.dataclass(frozen=True)
class Frozen:
    """An encoder and the labelled images it is judged on; features are computed once.

    Args:
        encoder: SiTEncoder.
        train, test: ImageSet, all labelled, of the same classes.
        eval_crop: float. See `ViewConfig`.
        seed: int. Of whatever is drawn.
    """

    encoder: SiTEncoder
    train: ImageSet
    test: ImageSet
    eval_crop: float
    seed: int = 0

    def __post_init__(self):
        if self.train.class_names != self.test.class_names:
            raise ValueError(
                f"The classes to train on {self.train.class_names} are not those to test on "
                f"{self.test.class_names}."
            )

    @functools.cached_property
    def features(self) -> FrozenFeatures:
        """Of any images."""
        return FrozenFeatures(self.encoder)

    @functools.cached_property
    def train_features(self) -> Features:
        """Of the training images, in their order."""
        return self.features.of(self.train, self.eval_crop)

    @functools.cached_property
    def test_features(self) -> Features:
        """Of the test images, in their order."""
        return self.features.of(self.test, self.eval_crop)


def linear(frozen: Frozen, output: pathlib.Path) -> dict:
    """Linear evaluation on cached features; writes `classifier.keras` and `confusion.png`.

    Args:
        frozen: Frozen.
        output: pathlib.Path of the folder.

    Returns:
        `accuracy`, the penalty's `strength`, `per_class` accuracies and the `confusion` matrix,
        its rows the true classes.

    Reference:
        Atito et al. 2021, section 4: the encoder frozen, a linear head on each token, their
        logits averaged.
    """
    labels, names = frozen.test.class_labels(), frozen.test.class_names
    heads = fit_linear_heads(
        head_features(frozen.train_features), frozen.train.class_labels(), frozen.seed
    )
    guesses = heads.logits(head_features(frozen.test_features)).argmax(axis=1)
    confusion = confusion_matrix(labels, guesses, labels=np.arange(len(names)))
    output.mkdir(parents=True, exist_ok=True)
    visualize.confusion_sheet(confusion, names, output / "confusion.png")
    classifier(frozen.encoder, heads).save(output / "classifier.keras")
    right, present = np.diag(confusion), confusion.sum(axis=1)
    return {
        "accuracy": float(np.mean(guesses == labels)),
        "strength": heads.strength,
        "per_class": {
            name: float(right[i] / present[i]) for i, name in enumerate(names) if present[i]
        },
        "confusion": confusion.tolist(),
    }


def classifier(encoder: SiTEncoder, heads: LinearHeads) -> keras.Model:
    """Returns the encoder with these heads as one model, see `build_classifier`."""
    (num_classes,) = next(iter(heads.biases.values())).shape
    model = build_classifier(encoder, num_classes)
    head = model.get_layer("classifier")
    for token in head.tokens:
        head.heads[token].set_weights([heads.kernels[token], heads.biases[token]])
    return model


def knn(frozen: Frozen, ks: typing.Sequence[int], kind: str = "tokens") -> dict:
    """Nearest neighbours by cosine similarity.

    Args:
        frozen: Frozen.
        ks: numbers of neighbours.
        kind: str. One of `FEATURES`.

    Returns:
        `features` and, for each k, the accuracy.
    """
    train, test = (
        select_features(features, kind)
        for features in (frozen.train_features, frozen.test_features)
    )
    labels = frozen.train.class_labels(), frozen.test.class_labels()
    accuracies = knn_accuracy(train, labels[0], test, labels[1], ks)
    return {"features": kind, **{str(k): accuracy for k, accuracy in accuracies.items()}}


def health(frozen: Frozen, two_views: TwoViews, output: pathlib.Path, kind: str = "tokens") -> dict:
    """Looks for collapse, and draws `map.png`, a map of the test images by their features.

    Args:
        frozen: Frozen.
        two_views: TwoViews. Makes the two views whose distance is the alignment.
        output: pathlib.Path of the folder.
        kind: str. One of `FEATURES`.

    Returns:
        `spread`, `effective_rank`, `alignment` and `uniformity`, see `diagnostics`.
    """
    sample = frozen.test.subset(MAX_HEALTH, frozen.seed)
    if len(sample) == len(frozen.test):
        features = select_features(frozen.test_features, kind)
    else:
        features = select_features(frozen.features.of(sample, frozen.eval_crop), kind)
    batch = min(256, len(sample))
    views = step_views(sample, two_views, batch, 0, len(sample) // batch, shuffle=False)
    first, second = (
        select_features(frozen.features(views.map(lambda x, i=i: x["clean"][:, i])), kind)
        for i in (0, 1)
    )
    output.mkdir(parents=True, exist_ok=True)
    visualize.feature_map(
        unit(features), sample.class_labels(), sample.class_names, output / "map.png", frozen.seed
    )
    return {
        "features": kind,
        "images": len(sample),
        "spread": diagnostics.spread(features),
        "effective_rank": diagnostics.effective_rank(features),
        "alignment": diagnostics.alignment(first, second),
        "uniformity": diagnostics.uniformity(features),
    }
