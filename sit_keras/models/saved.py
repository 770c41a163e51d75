"""Loads the `.keras` files that this package writes: encoders, networks, and classifiers.

`keras.saving.load_model` builds whatever a file names; these functions build what they know.
"""

import os

import keras

from sit_keras.config.network import check_projection, count_projection_parameters
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier, classifier_plan
from sit_keras.models.heads import (
    HEADS,
    NUM_ROTATIONS,
    ProjectionHead,
    build_pretext_network,
)
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
    """Finds the encoder and the contrastive head in a functional model's description."""
    found, config = values.get("registered_name"), values.get("config")
    if found != _FUNCTIONAL or not isinstance(config, dict):
        raise ValueError(f"it holds {found!r}, expected the network.keras of a run.")
    layers = [layer for layer in config.get("layers") or () if isinstance(layer, dict)]
    encoders = [x for x in layers if x.get("registered_name") == registered_name(SiTBackbone)]
    heads = {layer.get("name"): layer for layer in layers}
    if len(encoders) != 1 or not set(HEADS.values()) <= set(heads) or len(layers) != 5:
        raise ValueError("it has other layers than the network.keras of a run.")
    encoder = backbone_plan(SiTBackbone, encoders[0])
    d, patch_size = encoder.config["hidden_dim"], encoder.config["patch_size"]
    channels = encoder.config["image_shape"][-1]
    head = _projection(heads[HEADS["contrastive"]], encoder.config["mlp_dim"])
    projection = count_projection_parameters(d, encoder.config["mlp_dim"], **head)
    rotation = NUM_ROTATIONS * (d + 1)
    reconstruction = (d * patch_size**2 + 1) * channels
    return Plan(
        config=config,
        build=lambda: build_pretext_network(encoder.build(), **head),
        num_parameters=encoder.num_parameters + rotation + projection + reconstruction,
    )


def _projection(layer, mlp_dim):
    """Returns the arguments of `build_pretext_network` that a contrastive head is made with."""
    config = layer.get("config")
    config = config if isinstance(config, dict) else {}
    if layer.get("registered_name") != registered_name(ProjectionHead):
        check_size("the width of the projection", config.get("units"))
        return {"projection_dim": config["units"]}
    names = ("projection_dim", "projection_layers", "projection_norm")
    head = {name: config.get(name) for name in names}
    check_size("the width of the projection", head["projection_dim"])
    check_projection(head["projection_layers"], head["projection_norm"])
    hidden = config.get("hidden_dim")
    if head["projection_layers"] == 1 or hidden != mlp_dim:
        raise ValueError(
            f"its contrastive head has {head['projection_layers']} layers and the inner width "
            f"{hidden!r}, expected at least 2 layers and the width {mlp_dim} of the encoder's MLPs."
        )
    return head
