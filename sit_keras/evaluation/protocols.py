"""Judging an encoder on labelled images: linear evaluation, few-shot, neighbours, health.

Shapes: N images, E features, K classes.
"""

import dataclasses
import functools
import os
import pathlib
import typing

import keras

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import step_views
from sit_keras.data.splits import label_indices
from sit_keras.data.views import TwoViews
from sit_keras.evaluation import diagnostics
from sit_keras.evaluation.features import (
    Features,
    FrozenFeatures,
    head_features,
    select_features,
    unit,
)
from sit_keras.evaluation.finetune import finetune
from sit_keras.evaluation.knn import knn_accuracy
from sit_keras.evaluation.linear import TokenHeads, fit_heads
from sit_keras.evaluation.scores import scores
from sit_keras.models.backbone import SiTEncoder, build_encoder
from sit_keras.models.classifier import build_classifier
from sit_keras.models.loading import copy_weights, load_encoder
from sit_keras.plots import charts
from sit_keras.runs.cached_step import fingerprint, images_fingerprint, once

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


def linear(frozen: Frozen, output: pathlib.Path, hidden_dim: int | None = None) -> dict:
    """Linear evaluation on cached features; writes `classifier.keras` and `confusion.png`.

    Args:
        frozen: Frozen.
        output: pathlib.Path of the folder.
        hidden_dim: int or None. See `fit_heads`.

    Returns:
        What `scores` returns, the penalty's `strength`, and `new_weights`, the classifier's weights
        that are not the encoder's.

    Reference:
        Atito et al. 2021, section 4: the encoder frozen, a linear head on each token, their
        logits averaged.
    """
    heads = fit_heads(
        head_features(frozen.train_features), frozen.train.class_labels(), frozen.seed, hidden_dim
    )
    guesses = heads.logits(head_features(frozen.test_features)).argmax(axis=1)
    results = scores(guesses, frozen.test, output)
    model, new = classifier(frozen.encoder, heads, frozen.test.class_names)
    model.save(output / "classifier.keras")
    return {**results, "strength": heads.strength, "new_weights": new}


def classifier(
    encoder: SiTEncoder, heads: TokenHeads, class_names: tuple[str, ...]
) -> tuple[keras.Model, list[str]]:
    """Returns a copy of the encoder with these heads as one model, and what is new in it.

    See `build_classifier` and `copy_weights`.
    """
    *hidden, (_, bias) = next(iter(heads.layers.values()))
    hidden_dim = hidden[0][1].size if hidden else None
    model = build_classifier(build_encoder(encoder.config), bias.size, hidden_dim, class_names)
    new = copy_weights(encoder, model)
    head = model.get_layer("classifier")
    for token in head.tokens:
        head.heads[token].set_weights([x for layer in heads.layers[token] for x in layer])
    return model, new


def linear_once(frozen: Frozen, folder: str | os.PathLike, hidden_dim: int | None = None) -> dict:
    """As `linear`, but if it is finished in this folder, see `once`."""
    settings = {
        "encoder": fingerprint(frozen.encoder.get_weights()),
        "train": images_fingerprint(frozen.train),
        "test": images_fingerprint(frozen.test),
        "eval_crop": frozen.eval_crop,
        "hidden_dim": hidden_dim,
        "seed": frozen.seed,
    }
    return once(folder, settings, lambda path: linear(frozen, path, hidden_dim))


def few_shot(
    frozen: Frozen,
    fractions: typing.Sequence[float],
    config: FinetuneConfig,
    output: pathlib.Path,
) -> dict:
    """Fine-tunes on a share of the labels, then judges that encoder by linear evaluation on all.

    Args:
        frozen: Frozen.
        fractions: shares of the labels in (0, 1].
        config: FinetuneConfig.
        output: pathlib.Path of the folder. Each share has a folder in it, as of `finetune`, with
            `labels.json`, which training images it learnt from, and a folder `linear`.

    Returns:
        For each share: `labels` (their number), `finetuned` and `linear`, the two accuracies.

    Reference:
        Atito et al. 2021, section 4 (deck, few-shot): its rows "fewshot" and "SiT".
    """
    chosen = {
        fraction: label_indices(frozen.train, frozen.seed, fraction) for fraction in fractions
    }
    results = {}
    for fraction, rows in chosen.items():
        folder = output / f"{100 * fraction:g}-percent"
        labels = {"seed": frozen.seed, "rows": rows.tolist()}
        few = frozen.train.take(rows)
        tuned = finetune(frozen.encoder, few, frozen.test, config, folder, labels=labels)
        encoder = dataclasses.replace(frozen, encoder=load_encoder(folder))
        again = linear_once(encoder, folder / "linear", config.hidden_dim)
        results[f"{fraction:g}"] = {
            "labels": len(rows),
            "finetuned": tuned["accuracy"],
            "linear": again["accuracy"],
        }
    return results


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
    charts.feature_map(
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
