"""Compares an encoder with its baselines: the same network untrained, and raw pixels."""

import dataclasses

import numpy as np

from sit_keras.data.images import ImageSet
from sit_keras.evaluation.features import FrozenFeatures, head_features, pixel_features
from sit_keras.evaluation.knn import knn_accuracy
from sit_keras.evaluation.linear import fit_heads
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.seeding import seeded
from sit_keras.runs.results import KINDS

# A logistic regression on more pixels than this takes longer than the training.
MAX_PIXEL_SIZE = 32
NEIGHBOURS = 20


def compare_with_baselines(
    encoder: SiTBackbone, train: ImageSet, test: ImageSet, seed: int
) -> dict:
    """Classifies images by an encoder's features, by an untrained encoder's, and by raw pixels.

    Args:
        encoder: SiTBackbone.
        train, test: ImageSet, all labelled.
        seed: int. Of the untrained encoder's weights, and of the images that the linear probe
            holds out to choose its penalty.

    Returns:
        A dict of `probe_train_images`, `probe_test_images` and `num_classes`, and of
        `linear_accuracy` and `knn_accuracy`, each a dict from `trained`, `untrained` and `pixels`
        to a share in [0, 1].
    """
    with seeded(seed):
        untrained_encoder = encoder.clone()
    trained, untrained = FrozenFeatures(encoder), FrozenFeatures(untrained_encoder)
    height, width, channels = encoder.image_shape
    shape = min(MAX_PIXEL_SIZE, height), min(MAX_PIXEL_SIZE, width), channels
    preprocessing = ImagePreprocessing(shape, **dataclasses.asdict(encoder.preprocessing))
    kinds = {
        "trained": lambda images: head_features(trained.of(images)),
        "untrained": lambda images: head_features(untrained.of(images)),
        "pixels": lambda images: {"pixels": pixel_features(images, preprocessing)},
    }
    labels, test_labels = train.class_labels(), test.class_labels()
    k = min(NEIGHBOURS, len(train))
    linear, knn = {}, {}
    for kind, features in kinds.items():
        bank, queries = features(train), features(test)
        linear[kind] = fit_heads(bank, labels, seed).accuracy(queries, test_labels)
        bank, queries = (np.concatenate(list(x.values()), axis=1) for x in (bank, queries))
        knn[kind] = knn_accuracy(bank, labels, queries, test_labels, [k])[k]
    return {
        "probe_train_images": len(train),
        "probe_test_images": len(test),
        "num_classes": len(train.class_names),
        "linear_accuracy": linear,
        "knn_accuracy": knn,
    }


def baselines_table(results: dict) -> str:
    """Returns the results of `compare_with_baselines` as a table of text.

    Args:
        results: as there, with `probe_test_split`, the name of the split of the test images.
    """
    lines = [
        f"Accuracy on {results['probe_test_images']} {results['probe_test_split']} images "
        f"(chance {1 / results['num_classes']:.1%})      linear probe   nearest neighbours"
    ]
    width = lines[0].index("linear probe")
    for kind, name in KINDS.items():
        linear, knn = results["linear_accuracy"][kind], results["knn_accuracy"][kind]
        lines.append(f"  {name:<{width - 2}}{linear:>12.1%}   {knn:>18.1%}")
    return "\n".join(lines)
