"""Puts weights under the authors' PyTorch names into this package's models, and back.

Shapes: p patch side, C channels, D width. PyTorch keeps linear weights as (out, in), convolutions
as (out, in, p, p) and transposed convolutions as (in, out, p, p).
"""

import typing

import keras
import numpy as np

from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead
from sit_keras.models.heads import HEADS, ProjectionHead

# What makes up an encoder; whatever else a checkpoint holds are heads of some kind.
_ENCODER = (
    "patch_embed.", "rot_token", "contrastive_token", "cls_token", "reg_token", "pos_embed",
    "norm_pre.", "blocks.", "norm.",
)  # fmt: skip
# The authors' names of the learned weights of the tasks.
SCALARS = {"recons_w": "reconstruction", "rot_w": "rotation", "contrastive_w": "contrastive"}


class Entry(typing.NamedTuple):
    """One weight: its PyTorch name, its Keras variable, and how to change the layout each way."""

    name: str
    variable: keras.Variable
    to_keras: typing.Callable[[np.ndarray], np.ndarray]
    to_torch: typing.Callable[[np.ndarray], np.ndarray]


def load_state(model: keras.Model, state: dict[str, np.ndarray]) -> list[str]:
    """Puts weights under the authors' PyTorch names into a model, in place.

    Args:
        model: a SiTBackbone, a model of `build_pretext_network`, a SiTPretrainer, or a
            SiTImageClassifier without hidden layers.
        state: dict from name to array.

    Returns:
        The names of heads, and of loss scalars, that the model does not have.

    Raises:
        ValueError: for missing, unknown, misshapen or non-finite weights; the model is then
            unchanged.
    """
    fitting = {entry.name: entry for entry in entries(model)}
    others = [name for name in state if name not in fitting]
    found = {name: np.asarray(state[name]) for name in fitting if name in state}
    problems = {
        "missing": [name for name in fitting if name not in state],
        "unknown": [name for name in others if name.startswith(_ENCODER)],
        "of another shape": [
            f"{name}: received {array.shape}, expected {_torch_shape(fitting[name])}"
            for name, array in found.items()
            if array.shape != _torch_shape(fitting[name])
        ],
        "not finite": [name for name, array in found.items() if not np.isfinite(array).all()],
    }
    if any(problems.values()):
        reasons = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
        raise ValueError(f"These weights do not fit {model.name} ({'; '.join(reasons)}).")
    for name, entry in fitting.items():
        entry.variable.assign(entry.to_keras(found[name].astype(np.float32)))
    return others


def _some(names, most=8):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def to_state(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns a model's weights under the authors' PyTorch names and in their layout.

    Args:
        model: as for `load_state`.
    """
    return {e.name: e.to_torch(keras.ops.convert_to_numpy(e.variable)) for e in entries(model)}


def _torch_shape(entry):
    return entry.to_torch(np.empty(entry.variable.shape)).shape


def entries(model: keras.Model) -> typing.Iterator[Entry]:
    """Yields each weight of a model with its PyTorch name and layout, see `load_state`."""
    if isinstance(model, SiTBackbone):
        yield from _backbone_entries(model)
    elif hasattr(model, "weighting"):  # a SiTPretrainer, which only TensorFlow has
        yield from entries(model.network)
        for name, task in SCALARS.items():
            if task in getattr(model.weighting, "log_alphas", {}):
                # The authors learn s = 2 log alpha, of shape (1,).
                yield Entry(
                    name,
                    model.weighting.log_alphas[task],
                    lambda s: s.reshape(()) / 2,
                    lambda log_alpha: 2 * log_alpha.reshape(1),
                )
    else:
        backbone = _layer(model, SiTBackbone)
        if backbone is None:
            raise ValueError(
                f"{model.name} is a {type(model).__name__} without a SiTBackbone: give an encoder, "
                "or a network or a classifier on one."
            )
        yield from _backbone_entries(backbone)
        head = _layer(model, ClassifierHead)
        yield from _pretext_entries(model) if head is None else _classifier_entries(head)


def _layer(model, kind):
    """Returns the layer of a kind, or None."""
    return next((layer for layer in model.layers if isinstance(layer, kind)), None)


def _pretext_entries(network) -> typing.Iterator[Entry]:
    projection = network.get_layer(HEADS["contrastive"])
    if isinstance(projection, ProjectionHead):
        raise ValueError(
            f"The format has one layer for the contrastive head, and this network has "
            f"{projection.projection_layers}: give the encoder.keras beside it."
        )
    yield from _linear("rot_head", network.get_layer(HEADS["rotation"]))
    yield from _linear("contrastive_head", projection)
    head = network.get_layer(HEADS["reconstruction"])
    p, channels = head.patch_size, head.num_channels
    yield Entry(
        "convTrans.weight",
        head.kernel,
        lambda w: w.transpose(0, 2, 3, 1).reshape(w.shape[0], -1),
        lambda k: k.reshape(-1, p, p, channels).transpose(0, 3, 1, 2),
    )
    yield _same("convTrans.bias", head.bias)


def _classifier_entries(head) -> typing.Iterator[Entry]:
    if head.hidden_dim is not None:
        raise ValueError(
            f"A classifier with a hidden layer of {head.hidden_dim} has no names here: give the "
            "encoder.keras beside it."
        )
    names = ("rot_head", "contrastive_head")
    for name, token in zip(names, ClassifierHead.tokens, strict=True):
        yield from _linear(name, head.heads[token].get_layer("logits"))


def _backbone_entries(backbone) -> typing.Iterator[Entry]:
    if backbone.stem != "patch":
        raise ValueError(
            f"The format has no convolutional stem, and {backbone.name} has one: only an encoder "
            "with stem='patch' can be converted."
        )
    p, channels = backbone.patch_size, backbone.image_shape[-1]
    embedding = backbone.get_layer("patch_embedding")
    yield Entry(
        "patch_embed.proj.weight",
        embedding.kernel,
        lambda w: w.transpose(2, 3, 1, 0).reshape(-1, w.shape[0]),
        lambda k: k.reshape(p, p, channels, -1).transpose(3, 2, 0, 1),
    )
    yield _same("patch_embed.proj.bias", embedding.bias)
    prefix = backbone.get_layer("prefix_tokens")
    yield _same("rot_token", prefix.rotation_token)
    yield _same("contrastive_token", prefix.contrastive_token)
    yield _same("pos_embed", prefix.positions)
    for i in range(backbone.num_layers):
        block = backbone.get_layer(f"block_{i}")
        yield from _norm(f"blocks.{i}.norm1", block.attention_norm)
        yield from _linear(f"blocks.{i}.attn.qkv", block.attention.qkv)
        yield from _linear(f"blocks.{i}.attn.proj", block.attention.projection)
        yield from _norm(f"blocks.{i}.norm2", block.mlp_norm)
        yield from _linear(f"blocks.{i}.mlp.fc1", block.mlp_in)
        yield from _linear(f"blocks.{i}.mlp.fc2", block.mlp_out)
    yield from _norm("norm", backbone.get_layer("norm"))


def _same(name, variable):
    return Entry(name, variable, np.asarray, np.asarray)


def _linear(name, layer):
    yield Entry(f"{name}.weight", layer.kernel, np.transpose, np.transpose)
    yield _same(f"{name}.bias", layer.bias)


def _norm(name, layer):
    yield _same(f"{name}.weight", layer.gamma)
    yield _same(f"{name}.bias", layer.beta)
