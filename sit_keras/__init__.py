"""SiT in Keras 3: pre-train a Vision Transformer on unlabelled images."""

from sit_keras import augment, data
from sit_keras._version import VERSION
from sit_keras.backbone import build_encoder, build_ssl_model, load_encoder, resize_encoder
from sit_keras.config import (
    CorruptionConfig,
    RunConfig,
    SiTConfig,
    ViewConfig,
)
from sit_keras.pretrain import SiTPretrainer
from sit_keras.recipes import presets, recipe

__version__ = VERSION

__all__ = [
    "CorruptionConfig",
    "RunConfig",
    "SiTConfig",
    "SiTPretrainer",
    "ViewConfig",
    "augment",
    "build_encoder",
    "build_ssl_model",
    "data",
    "load_encoder",
    "presets",
    "recipe",
    "resize_encoder",
]
