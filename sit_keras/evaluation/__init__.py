"""How good is an encoder: frozen features, nearest neighbours, linear probes."""

from sit_keras.evaluation.features import (
    FEATURES,
    FrozenFeatures,
    head_features,
    pixel_features,
    select_features,
)
from sit_keras.evaluation.finetune import finetune
from sit_keras.evaluation.knn import knn_accuracy
from sit_keras.evaluation.linear import TokenHeads, fit_heads
from sit_keras.evaluation.report import PROTOCOLS, QUICK, evaluate
from sit_keras.evaluation.verdict import judge, verdict_table

__all__ = [
    "FEATURES",
    "FrozenFeatures",
    "TokenHeads",
    "PROTOCOLS",
    "QUICK",
    "evaluate",
    "finetune",
    "fit_heads",
    "head_features",
    "judge",
    "knn_accuracy",
    "pixel_features",
    "select_features",
    "verdict_table",
]
