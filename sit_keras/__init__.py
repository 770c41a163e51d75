"""SiT in Keras 3: pre-train a Vision Transformer on unlabelled images.

What is named here is imported when it is first asked for, so that the core, which any backend of
Keras runs, does not wait for TensorFlow.
"""

import importlib

from sit_keras._version import VERSION

__version__ = VERSION

# Each name and the module it comes from; a module's own name stands for itself.
_HOMES = {
    "CorruptionConfig": "config.settings",
    "RunConfig": "config.settings",
    "SiTConfig": "config.network",
    "SiTPretrainer": "training.pretrainer",
    "ViewConfig": "config.settings",
    "build_encoder": "models.backbone",
    "build_ssl_model": "models.backbone",
    "load_encoder": "models.loading",
    "presets": "config.presets",
    "recipe": "config.presets",
    "resize_encoder": "models.loading",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'sit_keras' has no attribute {name!r}")
    module = importlib.import_module(f"sit_keras.{_HOMES[name]}")
    return getattr(module, name)


def __dir__():
    return sorted([*globals(), *_HOMES])
