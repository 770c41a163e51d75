"""SiT in Keras 3: pre-train a Vision Transformer on unlabelled images.

What is named here is imported when it is first asked for, so that the core, which any backend of
Keras runs, does not wait for TensorFlow.
"""

import importlib

from sit_keras._version import VERSION

__version__ = VERSION

# Each name and the module it comes from; a module's own name stands for itself.
_HOMES = {
    "CorruptionConfig": "config",
    "RunConfig": "config",
    "SiTConfig": "config",
    "SiTPretrainer": "pretrain",
    "ViewConfig": "config",
    "augment": "augment",
    "build_encoder": "backbone",
    "build_ssl_model": "backbone",
    "data": "data",
    "load_encoder": "backbone",
    "presets": "recipes",
    "recipe": "recipes",
    "resize_encoder": "backbone",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'sit_keras' has no attribute {name!r}")
    module = importlib.import_module(f"sit_keras.{_HOMES[name]}")
    return module if _HOMES[name] == name else getattr(module, name)


def __dir__():
    return sorted([*globals(), *_HOMES])
