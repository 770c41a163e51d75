"""PyTorch checkpoints to encoders of this package, and back."""

import dataclasses
import math
import os
import pathlib

import numpy as np

from sit_keras.config.checks import check_choice
from sit_keras.config.choices import HEADS, RELEASES
from sit_keras.config.network import NetworkConfig
from sit_keras.conversion import torch_files, weight_names
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.heads import NUM_ROTATIONS, build_pretext_network
from sit_keras.models.loading import WEIGHTS
from sit_keras.models.positions import resize_positions
from sit_keras.models.preset_names import ENCODER
from sit_keras.models.saved import load_saved
from sit_keras.models.saving import save_keras
from sit_keras.runs.files import read_json, write_json
from sit_keras.runs.log import last_losses
from sit_keras.runs.shown_names import shown_path

SUFFIXES = (".pth", ".pt", ".safetensors")
ABOUT = "conversion.json"


def from_torch(
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    weights: str | None = None,
    release: str = RELEASES[0],
    num_heads: int | None = None,
    image_size: int | None = None,
) -> dict:
    """Converts a PyTorch checkpoint to a folder with `encoder.keras`.

    The authors' pre-trained networks also give `network.keras`, with the three pretext heads, and
    their classifiers `classifier.keras`. A ViT with one class token (timm, DeiT, and the authors'
    later release, which has no rotation token) is a start for training only: both tokens begin as
    its class token, or as class and distillation token, and see each other, so the outputs are not
    those of the source.

    Checkpoints do not hold how images are preprocessed. The encoder gets the defaults of
    `PreprocessingConfig`, which the authors, timm and DeiT use.

    Args:
        checkpoint: a `.pth`, `.pt` or `.safetensors` file.
        output: the folder, which must not have an encoder yet.
        weights: str or None. The entry of the file to take, such as `model_ema`; None takes `model`
            or, where there is none, the file itself.
        release: str. One of `RELEASES`, which differ in the sign of the rotation.
        num_heads: int or None. Attention heads, which no checkpoint holds; None for what is usual
            for the width, see `HEADS`.
        image_size: int or None. Another input size; the position embeddings are resized.

    Returns:
        The content of `conversion.json`: `source`, `weights`, `release`, `num_heads`, `kind`, the
        weights `left_out` by name, and the authors' `loss_scalars`.

    Raises:
        ValueError: if the file cannot be read safely, or is not a ViT of this kind.
    """
    check_choice("release", release, RELEASES)
    output = pathlib.Path(output)
    if (output / ENCODER).exists():
        raise ValueError(f"{output} has an encoder already: give another --output.")
    entry, state = torch_files.read_state(checkpoint, weights)
    one_token = "cls_token" in state and "rot_token" not in state
    state = _with_two_tokens(state) if one_token else state
    config = _config(state, num_heads, checkpoint)
    if image_size is not None:
        resized = dataclasses.replace(config, image_size=image_size)
        state["pos_embed"] = np.asarray(
            resize_positions(state["pos_embed"], config.grid, resized.grid)
        )
        config = resized
    encoder = SiTBackbone(**config.backbone_arguments())
    kind, model = ("encoder", encoder) if one_token else _with_heads(encoder, config, state)
    if kind == "network":
        state = _turned(state, release)
    left_out = weight_names.load_state(model, state)
    output.mkdir(parents=True, exist_ok=True)
    if kind != "encoder":
        save_keras(model, output / f"{kind}.keras")
    scalars = {name: float(state[name].item()) for name in weight_names.SCALARS if name in state}
    about = {
        "source": shown_path(checkpoint),
        "weights": entry,
        "release": release,
        "num_heads": config.num_heads,
        "kind": "start" if one_token else kind,
        "left_out": [name for name in left_out if name not in scalars],
        "loss_scalars": scalars,
    }
    write_json(output / ABOUT, about)
    save_keras(encoder, output / ENCODER)
    return about


def to_torch(
    run: str | os.PathLike, output: str | os.PathLike, release: str = RELEASES[0]
) -> list[str]:
    """Writes the weights of a run as the authors' code reads them.

    Args:
        run: a folder with `network.keras` or `encoder.keras`, a folder of `save_to_preset`, or a
            `.keras` file of an encoder, of a network with the pretext heads, or of a classifier
            without hidden layers.
        output: the file, `.pth` or `.safetensors`.
        release: str. One of `RELEASES`, which differ in the sign of the rotation.

    Returns:
        The names of the weights.

    Raises:
        ValueError: if there is no such model.
    """
    check_choice("release", release, RELEASES)
    run, output = pathlib.Path(run), pathlib.Path(output)
    if output.suffix not in SUFFIXES:
        raise ValueError(f"--output must end in {', '.join(SUFFIXES)}; received {output}.")
    if output.exists():
        raise ValueError(f"{output} is there already: give another --output.")
    files = [run / "network.keras", run / ENCODER, run / WEIGHTS] if run.is_dir() else [run]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ValueError(f"No network.keras, {ENCODER} or {WEIGHTS} in {run}.")
    if file.name == WEIGHTS:
        model = SiTBackbone.from_preset(run)
    else:
        model = load_saved(file)
    state = weight_names.to_state(model)
    if "convTrans.weight" in state:
        state = {**_turned(state, release), **_loss_scalars(file.parent)}
    output.parent.mkdir(parents=True, exist_ok=True)
    torch_files.write(output, state)
    return list(state)


def _with_two_tokens(state):
    """Returns the state of a ViT with a class token, or also a distillation token, as SiT's."""
    state = dict(state)
    class_token = state.pop("cls_token")
    second = state.pop("dist_token", None)
    state["rot_token"] = class_token
    state["contrastive_token"] = class_token if second is None else second
    positions = state.get("pos_embed")  # (1, 1 + N, D)
    if second is None and positions is not None and positions.ndim == 3:
        state["pos_embed"] = np.concatenate([positions[:, :1], positions], axis=1)
    return state


def _config(state, num_heads, path) -> NetworkConfig:
    """Returns the sizes of a network from the shapes of its weights."""
    needed = ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "pos_embed", "rot_token")
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(
            f"{path} has no {', '.join(missing)}, so it is no SiT and no ViT of timm's names; it "
            f"begins with {', '.join(list(state)[:4])}."
        )
    ranks = (4, 2, 3, 3)
    wrong = [
        f"{name} {state[name].shape}"
        for name, rank in zip(needed, ranks, strict=True)
        if state[name].ndim != rank
    ]
    if wrong:
        raise ValueError(f"{path} is no ViT of timm's layout: it has {', '.join(wrong)}.")
    width, channels, patch_size, _ = state["patch_embed.proj.weight"].shape
    num_patches = state["pos_embed"].shape[1] - NetworkConfig.num_prefix_tokens
    side = math.isqrt(max(num_patches, 0))
    if channels != NetworkConfig.channels or side * side != num_patches or not side:
        raise ValueError(
            f"{path} is for images of {channels} channels in {num_patches} patches: expected "
            f"{NetworkConfig.channels} channels, whose mean and deviation are known, and patches "
            "in a square."
        )
    if num_heads is None and width not in HEADS:
        raise ValueError(
            f"{path} does not say how many attention heads share its width of {width}: give "
            "--num_heads."
        )
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    projection = state.get("contrastive_head.weight")
    return NetworkConfig(
        image_size=side * patch_size,
        patch_size=patch_size,
        hidden_dim=width,
        num_layers=len(blocks),
        num_heads=HEADS[width] if num_heads is None else num_heads,
        mlp_dim=state["blocks.0.mlp.fc1.weight"].shape[0],
        projection_dim=NetworkConfig.projection_dim if projection is None else len(projection),
    )


def _with_heads(encoder, config, state):
    """Returns the kind of model that a state of SiT is, and the encoder with the heads of it."""
    shapes = [np.shape(state.get(f"{head}.weight")) for head in ("rot_head", "contrastive_head")]
    if "convTrans.weight" in state and shapes[0] == (NUM_ROTATIONS, config.hidden_dim):
        return "network", build_pretext_network(encoder, config.projection_dim)
    if shapes[0] == shapes[1] and shapes[0][1:] == (config.hidden_dim,):
        return "classifier", SiTImageClassifier(encoder, num_classes=shapes[0][0])
    return "encoder", encoder


def _loss_scalars(folder):
    """Returns s = 2 log alpha of each task, which the authors' networks hold and ours do not.

    A converted network has those of its source, a run those of its log; others those of the start.
    """
    about, log = folder / ABOUT, folder / "log.csv"
    scalars = dict.fromkeys(weight_names.SCALARS, 1.0)
    if about.exists():
        scalars |= read_json(about, "what was converted", ["loss_scalars"])["loss_scalars"]
    elif log.exists():
        last = last_losses(log)
        for name, task in weight_names.SCALARS.items():
            if f"alpha_{task}" in last:
                scalars[name] = 2 * math.log(last[f"alpha_{task}"])
    return {name: np.array([value], np.float32) for name, value in scalars.items()}


def _turned(state, release):
    """Returns the state with the rotations counted the other way round in the older release."""
    if release == RELEASES[0]:
        return state
    order = [0, 3, 2, 1]
    heads = {name: state[name][order] for name in ("rot_head.weight", "rot_head.bias")}
    return {**state, **heads}
