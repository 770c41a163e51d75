"""Ways to evaluate an encoder: linear, few-shot, nearest neighbours, representation diagnostics.

Shapes: N images, E features, K classes.
"""

import dataclasses
import functools
import os
import pathlib
import typing

import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.files import make_own_folder
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import step_views
from sit_keras.data.splits import label_indices
from sit_keras.evaluation import diagnostics
from sit_keras.evaluation.feature_plane import feature_plane
from sit_keras.evaluation.features import (
    Features,
    FrozenFeatures,
    head_features,
    select_features,
    unit,
)
from sit_keras.evaluation.finetune import finetune
from sit_keras.evaluation.knn import knn_predictions
from sit_keras.evaluation.linear import TokenHeads, fit_heads
from sit_keras.evaluation.scores import SCORES, score, scores
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.loading import copy_weights
from sit_keras.models.saving import save_keras
from sit_keras.models.seeding import seeded
from sit_keras.plots import charts
from sit_keras.runs.cached_step import cached_step, fingerprint, images_fingerprint

# A map of more images cannot be read, and uniformity sums over all pairs of images.
MAX_DIAGNOSED = 2_000


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
    """An encoder with the labelled images to evaluate it on, whose features are computed once.

    Args:
        encoder: SiTBackbone.
        train, test: ImageSet, all labelled, of the same classes.
        seed: int. Of everything random in the evaluation.

    Raises:
        ValueError: if the classes differ.
    """

    encoder: SiTBackbone
    train: ImageSet
    test: ImageSet
    seed: int = 0

    def __post_init__(self):
        if self.train.class_names != self.test.class_names:
            raise ValueError(
                f"The classes to train on {self.train.class_names} are not those to test on "
                f"{self.test.class_names}."
            )

    @functools.cached_property
    def features(self) -> FrozenFeatures:
        """Computes the features of images."""
        return FrozenFeatures(self.encoder)

    @functools.cached_property
    def train_features(self) -> Features:
        """The features of the training images, in their order."""
        return self.features.of(self.train)

    @functools.cached_property
    def test_features(self) -> Features:
        """The features of the test images, in their order."""
        return self.features.of(self.test)


def linear(frozen: FrozenEncoder, output: pathlib.Path, hidden_dim: int | None = None) -> dict:
    """Evaluates linear heads on cached features; writes `classifier.keras` and `confusion.png`.

    Args:
        frozen: FrozenEncoder.
        output: pathlib.Path of the folder.
        hidden_dim: int or None. See `fit_heads`.

    Returns:
        What `scores` returns, the `strength` of the penalty, and `new_weights`, the classifier's
        weights that are not the encoder's.

    Reference:
        Atito et al. 2021, section 4: the encoder frozen, a linear head on each token, their
        logits averaged.
    """
    labels, names = frozen.train.class_labels(), frozen.train.class_names
    heads = fit_heads(
        head_features(frozen.train_features), labels, frozen.seed, hidden_dim, len(names)
    )
    predicted = heads.predict(head_features(frozen.test_features))
    results = scores(predicted, frozen.test, output)
    model, new = build_classifier(frozen.encoder, heads, names)
    save_keras(model, output / "classifier.keras")
    return {**results, "strength": heads.strength, "new_weights": new}


def build_classifier(
    encoder: SiTBackbone, heads: TokenHeads, class_names: tuple[str, ...]
) -> tuple[SiTImageClassifier, list[str]]:
    """Builds a classifier from a copy of an encoder and the heads fitted to its tokens.

    Args:
        encoder: SiTBackbone.
        heads: TokenHeads for each token of the encoder.
        class_names: K names.

    Returns:
        The classifier, and the paths of its weights that are not the encoder's.
    """
    *hidden, (_, bias) = next(iter(heads.layers.values()))
    hidden_dim = hidden[0][1].size if hidden else None
    model = SiTImageClassifier(encoder.clone(), bias.size, hidden_dim, class_names)
    new = copy_weights(encoder, model)
    for token in model.head.tokens:
        model.head.heads[token].set_weights([x for layer in heads.layers[token] for x in layer])
    return model, new


def cached_linear(
    frozen: FrozenEncoder, folder: str | os.PathLike, hidden_dim: int | None = None
) -> dict:
    """Returns the results of `linear` from a folder, or computes them, as `cached_step` does."""
    settings = {
        "encoder": fingerprint(frozen.encoder.get_weights()),
        "train": images_fingerprint(frozen.train),
        "test": images_fingerprint(frozen.test),
        "preprocessing": dataclasses.asdict(frozen.encoder.preprocessing),
        "hidden_dim": hidden_dim,
        "seed": frozen.seed,
    }
    return cached_step(folder, settings, lambda path: linear(frozen, path, hidden_dim))


def few_shot(
    frozen: FrozenEncoder,
    fractions: typing.Sequence[float],
    config: FinetuneConfig,
    output: pathlib.Path,
) -> dict:
    """Fine-tunes on a share of the labels, then evaluates linear heads on that encoder.

    The linear heads are fitted with all labels.

    Args:
        frozen: FrozenEncoder.
        fractions: shares of the labels in (0, 1].
        config: FinetuneConfig.
        output: pathlib.Path of the folder. Gets a folder for each share, as `finetune` writes it,
            with `labels.json`, the training images that were used, and a folder `linear`.

    Returns:
        For each share: `labels` (their number), `finetuned` and `linear`, the two accuracies, and
        `finetuned_scores` and `linear_scores`, what `score` returns of them.

    Reference:
        Atito et al. 2021, section 4 and Table 2: its rows "fewshot" and "SiT".
    """
    chosen = {
        fraction: label_indices(frozen.train, frozen.seed, fraction) for fraction in fractions
    }
    results = {}
    for fraction, rows in chosen.items():
        folder = output / f"{100 * fraction:g}-percent"
        labels = {"seed": frozen.seed, "rows": rows.tolist()}
        few = frozen.train.take(rows)
        finetuned = finetune(frozen.encoder, few, frozen.test, config, folder, labels=labels)
        encoder = dataclasses.replace(frozen, encoder=SiTBackbone.from_preset(folder))
        on_all_labels = cached_linear(encoder, folder / "linear", config.hidden_dim)
        results[f"{fraction:g}"] = {
            "labels": len(rows),
            "finetuned": finetuned["accuracy"],
            "linear": on_all_labels["accuracy"],
            "finetuned_scores": _scores_of(finetuned),
            "linear_scores": _scores_of(on_all_labels),
        }
    return results


def _scores_of(results):
    """Returns what `score` returned, of results that hold more."""
    return {name: results[name] for name in SCORES if name in results}


def knn(frozen: FrozenEncoder, ks: typing.Sequence[int], kind: str = "tokens") -> dict:
    """Evaluates nearest neighbours by cosine similarity.

    Args:
        frozen: FrozenEncoder.
        ks: numbers of neighbours.
        kind: str. One of `FEATURES`.

    Returns:
        `features`, their kind, for each k the accuracy, and `scores`, for each k what `score`
        returns.
    """
    train, test = (
        select_features(features, kind)
        for features in (frozen.train_features, frozen.test_features)
    )
    labels = frozen.test.class_labels()
    predictions = knn_predictions(train, frozen.train.class_labels(), test, ks)
    found = {str(k): score(predicted, labels) for k, predicted in predictions.items()}
    accuracies = {k: values["accuracy"] for k, values in found.items()}
    return {"features": kind, **accuracies, "scores": found}


def representation_diagnostics(
    frozen: FrozenEncoder, two_views: TwoViews, output: pathlib.Path, kind: str = "tokens"
) -> dict:
    """Measures collapse, alignment and uniformity of the features of test images.

    Writes `map.png`, a map of the test images by their features.

    Args:
        frozen: FrozenEncoder.
        two_views: TwoViews. Makes the two views whose distance is the alignment.
        output: pathlib.Path of the folder.
        kind: str. One of `FEATURES`.

    Returns:
        `features`, their kind, the number of `images`, `spread`, `effective_rank`, `alignment` and
        `uniformity`, see `sit_keras.evaluation.diagnostics`, and `untrained`, a dict of the same
        four of this network with new weights.
    """
    sample = frozen.test.subset(MAX_DIAGNOSED, frozen.seed)
    with seeded(frozen.seed):
        untrained = FrozenFeatures(frozen.encoder.clone())
    is_whole = len(sample) == len(frozen.test)
    of_sample = frozen.test_features if is_whole else frozen.features.of(sample)
    batch = min(256, len(sample))
    views = step_views(sample, two_views, batch, 0, len(sample) // batch, shuffle=False)
    # Both views of an image follow each other.
    views = views.map(lambda x: tf.reshape(x["clean"], (-1, *frozen.encoder.image_shape)))
    of_views = frozen.features.beside([untrained], views)
    both = [select_features(x, kind) for x in (of_sample, untrained.of(sample))]
    measures, of_untrained = (
        diagnostics.measures(x, pairs[::2], pairs[1::2])
        for x, pairs in zip(both, (select_features(x, kind) for x in of_views), strict=True)
    )
    make_own_folder(output)
    charts.feature_map(
        feature_plane(unit(both[0]), frozen.seed),
        sample.class_labels(),
        sample.class_names,
        output / "map.png",
    )
    return {
        "features": kind,
        "images": len(sample),
        **measures,
        "untrained": of_untrained,
    }
