"""How good is an encoder: frozen features, nearest neighbours, linear probes."""

from sit_keras.evaluation.features import FrozenFeatures, encoder_features, pixel_features
from sit_keras.evaluation.knn import knn_accuracy
from sit_keras.evaluation.linear import linear_accuracy
from sit_keras.evaluation.verdict import judge, verdict_table

__all__ = [
    "FrozenFeatures",
    "encoder_features",
    "judge",
    "knn_accuracy",
    "linear_accuracy",
    "pixel_features",
    "verdict_table",
]
