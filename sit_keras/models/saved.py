"""Loads the `.keras` files that this package writes: encoders, networks, and classifiers.

`keras.saving.load_model` builds whatever a file names; these functions build what they know.
"""

import os

import keras

from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier, classifier_plan
from sit_keras.models.heads import HEADS, NUM_ROTATIONS, build_pretext_network
from sit_keras.models.keras_files import Plan, load_keras
from sit_keras.models.loading import backbone_plan, check_size, registered_name

_FUNCTIONAL = "Functional"  # the class of a network with heads, which has none of its own


def load_network(path: str | os.PathLike) -> keras.Model:
    """Loads a `network.keras`: an encoder with its three pretext heads.

    Args:
        path: of the file.

    Returns:
        A model as of `build_pretext_network`.

    Raises:
        ValueError: if the file is damaged or holds something else; nothing in it is run.
    """
    return load_keras(path, "a network with pretext heads", _network_plan)


def load_classifier(path: str | os.PathLike) -> SiTImageClassifier:
    """Loads a `classifier.keras`; Args and Raises as for `load_network`."""
    return load_keras(path, "a classifier", classifier_plan)


def load_saved(path: str | os.PathLike) -> keras.Model:
    """Loads an encoder, a network or a classifier; Args and Raises as for `load_network`."""
    return load_keras(path, "an encoder, a network or a classifier", _any_plan)


def _any_plan(values):
    name = values.get("registered_name")
    if name == registered_name(SiTImageClassifier):
        return classifier_plan(values)
    return _network_plan(values) if name == _FUNCTIONAL else backbone_plan(SiTBackbone, values)


def _network_plan(values) -> Plan:
    """Finds the encoder and the width of the projection in a functional model's description."""
    found, config = values.get("registered_name"), values.get("config")
    if found != _FUNCTIONAL or not isinstance(config, dict):
        raise ValueError(f"it holds {found!r}, expected the network.keras of a run.")
    layers = [layer for layer in config.get("layers") or () if isinstance(layer, dict)]
    encoders = [x for x in layers if x.get("registered_name") == registered_name(SiTBackbone)]
    heads = {layer.get("name"): layer.get("config") for layer in layers}
    projection = heads.get(HEADS["contrastive"])
    if len(encoders) != 1 or not set(HEADS.values()) <= set(heads) or len(layers) != 5:
        raise ValueError("it has other layers than the network.keras of a run.")
    width = projection.get("units") if isinstance(projection, dict) else None
    check_size("the width of the projection", width)
    encoder = backbone_plan(SiTBackbone, encoders[0])
    d, patch_size = encoder.config["hidden_dim"], encoder.config["patch_size"]
    channels = encoder.config["image_shape"][-1]
    linear = (NUM_ROTATIONS + width) * (d + 1)
    return Plan(
        config=config,
        build=lambda: build_pretext_network(encoder.build(), width),
        num_parameters=encoder.num_parameters + linear + (d * patch_size**2 + 1) * channels,
    )
