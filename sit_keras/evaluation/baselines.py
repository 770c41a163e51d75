"""Was the pre-training worth it: the encoder against an untrained one and against raw pixels."""

import keras
import numpy as np

from sit_keras.data.images import ImageSet
from sit_keras.evaluation.features import FrozenFeatures, head_features, pixel_features
from sit_keras.evaluation.knn import knn_accuracy
from sit_keras.evaluation.linear import fit_heads
from sit_keras.models.backbone import SiTEncoder, build_encoder
from sit_keras.runs.results import KINDS

# A logistic regression on more pixels than this takes longer than the training.
MAX_PIXEL_SIZE = 32


NEIGHBOURS = 20


def judge(
    encoder: SiTEncoder, train: ImageSet, test: ImageSet, eval_crop: float, seed: int
) -> dict:
    """Probes three kinds of features: the encoder's, an untrained encoder's, and the pixels.

    Args:
        encoder: SiTEncoder.
        train, test: ImageSet, all labelled.
        eval_crop: float. See `ViewConfig`.
        seed: int. Of the untrained encoder's weights and of the probe's own split.

    Returns:
        A dict: the numbers of images, and `linear_accuracy` and `knn_accuracy`, each a dict from
        `trained`, `untrained` and `pixels` to a share in [0, 1].
    """
    keras.utils.set_random_seed(seed)
    trained, untrained = FrozenFeatures(encoder), FrozenFeatures(build_encoder(encoder.config))
    pixel_size = min(MAX_PIXEL_SIZE, encoder.config.square_size)
    kinds = {
        "trained": lambda images: head_features(trained.of(images, eval_crop)),
        "untrained": lambda images: head_features(untrained.of(images, eval_crop)),
        "pixels": lambda images: {"pixels": pixel_features(images, pixel_size, eval_crop)},
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


def verdict_table(results: dict) -> str:
    """Returns what `judge` found as a small table."""
    lines = [
        f"Accuracy on {results['probe_test_images']} {results['probe_test_split']} images "
        f"(chance {1 / results['num_classes']:.1%})      linear probe   nearest neighbours"
    ]
    width = lines[0].index("linear probe")
    for kind, name in KINDS.items():
        linear, knn = results["linear_accuracy"][kind], results["knn_accuracy"][kind]
        lines.append(f"  {name:<{width - 2}}{linear:>12.1%}   {knn:>18.1%}")
    return "\n".join(lines)
