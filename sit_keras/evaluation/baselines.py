"""Compares an encoder with its baselines: itself before the training, raw pixels, a constant."""

import dataclasses

import numpy as np

from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.evaluation.diagnostics import token_spread
from sit_keras.evaluation.features import (
    Features,
    FrozenFeatures,
    head_features,
    kept_batches,
    pixel_features,
)
from sit_keras.evaluation.knn import knn_predictions
from sit_keras.evaluation.linear import fit_heads
from sit_keras.evaluation.scores import gain, largest_class_scores, score
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.seeding import seeded
from sit_keras.runs.results import BASELINES_HEADING, aligned, baseline_rows, probe_images_text

# A logistic regression on more pixels than this takes longer than the training.
MAX_PIXEL_SIZE = 32
NEIGHBOURS = 20


def pixel_preprocessing(encoder: SiTBackbone) -> ImagePreprocessing:
    """Returns what makes the raw pixels that an encoder is compared with: its input, but smaller.

    Args:
        encoder: SiTBackbone.
    """
    height, width, channels = encoder.image_shape
    shape = min(MAX_PIXEL_SIZE, height), min(MAX_PIXEL_SIZE, width), channels
    return ImagePreprocessing(shape, **dataclasses.asdict(encoder.preprocessing))


def compare_with_baselines(
    encoder: SiTBackbone,
    train: ImageSet,
    test: ImageSet,
    seed: int,
    trained: FrozenFeatures | None = None,
    initial: SiTBackbone | None = None,
) -> dict:
    """Classifies images by an encoder's features, by an untrained encoder's, and by raw pixels.

    Args:
        encoder: SiTBackbone.
        train, test: ImageSet, all labelled.
        seed: int. Of the untrained encoder's weights, and of the images that the linear probe
            holds out to choose its penalty.
        trained: FrozenFeatures of the encoder, if there is one that has been traced.
        initial: SiTBackbone of the same preprocessing, or None. The encoder that the training
            started from, where that was a trained one.

    Returns:
        A dict of `probe_train_images`, `probe_test_images` and `num_classes`; of `linear_accuracy`
        and `knn_accuracy`, each a dict from `trained`, `untrained`, `pixels` and, where it is
        given, `initial` to a share in [0, 1]; of `linear_scores` and `knn_scores`, the same with
        what `score` returns; `gains`, by `linear` and `knn` a dict of what `gain` returns over each
        of the others; `token_spread`, of each encoder that of each token on the test images; and
        `largest_class`, see `largest_class_scores`. Empty where all training images are of one
        class, which leaves nothing to classify.
    """
    labels, test_labels = train.class_labels(), test.class_labels()
    if len(np.unique(labels)) < 2:
        print("The labelled training images are of one class: the encoder cannot be compared.")
        return {}
    with seeded(seed):
        untrained_encoder = encoder.clone()
    trained = trained or FrozenFeatures(encoder)
    others = {"untrained": FrozenFeatures(untrained_encoder)}
    if initial is not None:
        others["initial"] = FrozenFeatures(initial)
    small = pixel_preprocessing(encoder)

    def by_kind(images):
        batches = kept_batches(images, trained.preprocessing)
        found = trained.beside(list(others.values()), batches, len(images))
        tokens = dict(zip(("trained", *others), map(head_features, found), strict=True))
        is_same = small.image_shape == encoder.image_shape
        pixels = pixel_features(batches if is_same else eval_batches(images, small))
        return {**tokens, "pixels": {"pixels": pixels}}

    banks, queries_of = by_kind(train), by_kind(test)
    num_classes = len(train.class_names)
    predicted: dict[str, dict] = {"linear": {}, "knn": {}}
    for kind, bank in banks.items():
        both = probe(bank, labels, queries_of[kind], num_classes, seed)
        predicted["linear"][kind], predicted["knn"][kind] = both
    linear, knn = (
        {kind: score(classes, test_labels) for kind, classes in by_kind.items()}
        for by_kind in predicted.values()
    )
    gains = {
        judge: {
            kind: gain(found["trained"], classes, test_labels)
            for kind, classes in found.items()
            if kind != "trained"
        }
        for judge, found in predicted.items()
    }
    return {
        "probe_train_images": len(train),
        "probe_test_images": len(test),
        "num_classes": num_classes,
        "linear_accuracy": {kind: scores["accuracy"] for kind, scores in linear.items()},
        "knn_accuracy": {kind: scores["accuracy"] for kind, scores in knn.items()},
        "linear_scores": linear,
        "knn_scores": knn,
        "gains": gains,
        "token_spread": {
            kind: token_spread(tokens) for kind, tokens in queries_of.items() if kind != "pixels"
        },
        "largest_class": largest_class_scores(train, test),
    }


def probe(
    bank: Features, labels: np.ndarray, queries: Features, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Classifies images by a linear probe, and by the nearest of all features side by side.

    Args:
        bank, queries: by the name of the feature, (N, E) float32: what is learned from, and what is
            classified.
        labels: (N,) int. Of the bank.
        num_classes: int.
        seed: int. Of the images that the linear probe holds out to choose its penalty.

    Returns:
        Two arrays (N,) int of predicted classes.
    """
    heads = fit_heads(bank, labels, seed, num_classes=num_classes)
    k = min(NEIGHBOURS, len(labels))
    train, test = (np.concatenate(list(x.values()), axis=1) for x in (bank, queries))
    return heads.predict(queries), knn_predictions(train, labels, test, [k])[k]


def baselines_table(results: dict) -> str:
    """Returns the results of `compare_with_baselines` as a table of text.

    Args:
        results: as there, with `probe_test_split`, the name of the split of the test images, and
            `labelled_images`, how many `evaluate` would have.
    """
    return "\n".join(
        [
            f"Accuracy with its 95 % interval on {results['probe_test_images']} "
            f"{results['probe_test_split']} images, and balanced accuracy",
            aligned([BASELINES_HEADING, *baseline_rows(results)]),
            *probe_images_text(results),
        ]
    )
