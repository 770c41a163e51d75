"""PyTorch checkpoints to encoders of this package, and back.

python -m sit_keras.convert checkpoint.pth --output=runs/sit            the authors' SiT of 2021
python -m sit_keras.convert deit_small.pth --output=runs/deit           a start for pre-training
python -m sit_keras.convert runs/digits-digits-seed0 --output=sit.pth   back
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import sys

import keras
import numpy as np

from sit_keras.config.checks import check_choice
from sit_keras.config.network import NUM_CHANNELS, SiTConfig
from sit_keras.convert import torch_files, weight_names
from sit_keras.models.backbone import build_encoder, build_ssl_model
from sit_keras.models.classifier import build_classifier
from sit_keras.models.heads import NUM_ROTATIONS
from sit_keras.models.loading import resize_positions
from sit_keras.runs.files import write_json
from sit_keras.runs.log import last_losses

# The authors' first release counts quarter turns counter-clockwise, the second clockwise, as we do.
RELEASES = ("2021-07", "2021-04")
SUFFIXES = (".pth", ".pt", ".safetensors")
# Attention heads by width, in the paper, timm and DeiT; other networks have others.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}
ABOUT = "conversion.json"


def from_torch(
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    weights: str | None = None,
    release: str = RELEASES[0],
    num_heads: int | None = None,
    image_size: int | None = None,
) -> dict:
    """Converts a checkpoint of PyTorch to a folder with `encoder.keras`.

    The authors' pre-trained networks also give `network.keras`, with the three pretext heads, and
    their classifiers `classifier.keras`. A ViT with one class token (timm, DeiT, and the authors'
    later release, which has no rotation token) is a start for training only: both tokens begin as
    its class token, or as class and distillation token, and see each other, so the outputs are not
    those of the source.

    Args:
        checkpoint: a `.pth`, `.pt` or `.safetensors` file.
        output: the folder, which must not have an encoder yet.
        weights: str or None. The entry of the file to take, such as `model_ema`; None takes `model`
            or, where there is none, the file itself.
        release: str. One of `RELEASES`, which differ in the sign of the rotation.
        num_heads: int or None. Attention heads, which no checkpoint names; None for what is usual
            for the width, see `HEADS`.
        image_size: int or None. Another input size; the position embeddings are resized.

    Returns:
        What `conversion.json` holds: `source`, `weights`, `release`, `num_heads`, `kind`, the
        weights `left_out` by name, and the authors' `loss_scalars`.

    Raises:
        ValueError: if the file cannot be read safely, or is not a ViT of this kind.
    """
    check_choice("release", release, RELEASES)
    output = pathlib.Path(output)
    if (output / "encoder.keras").exists():
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
    kind, model = ("encoder", build_encoder(config)) if one_token else _build(config, state)
    if kind == "network":
        state = _turned(state, release)
    left_out = weight_names.load_state(model, state)
    encoder = model if kind == "encoder" else model.get_layer("sit_encoder")
    output.mkdir(parents=True, exist_ok=True)
    if kind != "encoder":
        model.save(output / f"{kind}.keras")
    scalars = {name: float(state[name].item()) for name in weight_names.SCALARS if name in state}
    about = {
        "source": os.fspath(checkpoint),
        "weights": entry,
        "release": release,
        "num_heads": config.num_heads,
        "kind": "start" if one_token else kind,
        "left_out": [name for name in left_out if name not in scalars],
        "loss_scalars": scalars,
    }
    write_json(output / ABOUT, about)
    encoder.save(output / "encoder.keras")
    return about


def to_torch(
    run: str | os.PathLike, output: str | os.PathLike, release: str = RELEASES[0]
) -> list[str]:
    """Writes the weights of a run as the authors' code reads them.

    Args:
        run: a folder with `network.keras` or `encoder.keras`, or a `.keras` file of an encoder, of
            a network with the pretext heads, or of a classifier without hidden layers.
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
    files = [run / "network.keras", run / "encoder.keras"] if run.is_dir() else [run]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ValueError(f"No network.keras or encoder.keras in {run}.")
    state = weight_names.to_state(keras.saving.load_model(file, compile=False))
    if "convTrans.weight" in state:
        state = {**_turned(state, release), **_loss_scalars(file.parent)}
    output.parent.mkdir(parents=True, exist_ok=True)
    torch_files.write(output, state)
    return list(state)


def _with_two_tokens(state):
    """The state of a ViT with a class token, and perhaps DeiT's distillation token, as SiT's."""
    state = dict(state)
    class_token = state.pop("cls_token")
    second = state.pop("dist_token", None)
    state["rot_token"] = class_token
    state["contrastive_token"] = class_token if second is None else second
    positions = state.get("pos_embed")  # (1, 1 + N, D)
    if second is None and positions is not None and positions.ndim == 3:
        state["pos_embed"] = np.concatenate([positions[:, :1], positions], axis=1)
    return state


def _config(state, num_heads, path) -> SiTConfig:
    """The sizes of a network, from the shapes of its weights."""
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
    num_patches = state["pos_embed"].shape[1] - SiTConfig.num_prefix_tokens
    side = math.isqrt(max(num_patches, 0))
    if channels != NUM_CHANNELS or side * side != num_patches or not side:
        raise ValueError(
            f"{path} is for images of {channels} channels in {num_patches} patches: expected "
            f"{NUM_CHANNELS} channels, and patches in a square."
        )
    if num_heads is None and width not in HEADS:
        raise ValueError(
            f"{path} does not say how many attention heads share its width of {width}: give "
            "--num_heads."
        )
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    projection = state.get("contrastive_head.weight")
    return SiTConfig(
        image_size=side * patch_size,
        patch_size=patch_size,
        hidden_dim=width,
        num_layers=len(blocks),
        num_heads=HEADS[width] if num_heads is None else num_heads,
        mlp_dim=state["blocks.0.mlp.fc1.weight"].shape[0],
        projection_dim=SiTConfig.projection_dim if projection is None else len(projection),
    )


def _build(config, state):
    """What the heads of a SiT make of it, and the model for it."""
    shapes = [np.shape(state.get(f"{head}.weight")) for head in ("rot_head", "contrastive_head")]
    if "convTrans.weight" in state and shapes[0] == (NUM_ROTATIONS, config.hidden_dim):
        return "network", build_ssl_model(config)
    if shapes[0] == shapes[1] and shapes[0][1:] == (config.hidden_dim,):
        return "classifier", build_classifier(build_encoder(config), num_classes=shapes[0][0])
    return "encoder", build_encoder(config)


def _loss_scalars(folder):
    """What the authors' networks hold and ours do not: s = 2 log alpha of each task.

    Of a converted network as they were, of a run from its log, and else as they begin.
    """
    about, log = folder / ABOUT, folder / "log.csv"
    scalars = dict.fromkeys(weight_names.SCALARS, 1.0)
    if about.exists():
        scalars |= json.loads(about.read_text())["loss_scalars"]
    elif log.exists():
        last = last_losses(log)
        for name, task in weight_names.SCALARS.items():
            if f"alpha_{task}" in last:
                scalars[name] = 2 * math.log(last[f"alpha_{task}"])
    return {name: np.array([value], np.float32) for name, value in scalars.items()}


def _turned(state, release):
    """The state with its rotation head counting the other way, if it is the first release's."""
    if release == RELEASES[0]:
        return state
    order = [0, 3, 2, 1]
    heads = {name: state[name][order] for name in ("rot_head.weight", "rot_head.bias")}
    return {**state, **heads}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m sit_keras.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        help="a .pth, .pt or .safetensors file; or a run folder or .keras file, to go back",
    )
    parser.add_argument(
        "--output", required=True, help="folder of the encoder; or the .pth or .safetensors file"
    )
    parser.add_argument(
        "--weights", help="entry of the file to take, such as model_ema. Default: model"
    )
    parser.add_argument(
        "--release",
        default=RELEASES[0],
        choices=RELEASES,
        help="of the authors' code: the first one turned the other way. Default: %(default)s",
    )
    parser.add_argument(
        "--num_heads", type=int, help=f"attention heads. Default, by the width: {HEADS}"
    )
    parser.add_argument(
        "--image_size", type=int, help="another input size; the position embeddings are resized"
    )
    options = parser.parse_args(argv)
    source = pathlib.Path(options.source)
    if source.is_dir() or source.suffix == ".keras":
        given = [
            n for n in ("weights", "num_heads", "image_size") if getattr(options, n) is not None
        ]
        if given:
            raise ValueError(
                f"--{given[0]} is for reading PyTorch files; {options.source} is none."
            )
        names = to_torch(options.source, options.output, options.release)
        print(f"{len(names)} weights: {options.output}")
        return
    about = from_torch(
        options.source,
        options.output,
        options.weights,
        options.release,
        options.num_heads,
        options.image_size,
    )
    encoder = pathlib.Path(options.output) / "encoder.keras"
    if about["left_out"]:
        print(f"Left out: {', '.join(about['left_out'])}")
    print(f"{about['num_heads']} attention heads, which the file does not say (--num_heads).")
    if about["kind"] == "start":
        print(
            "One class token became two, so its outputs are not the source's: train it first.\n"
            f"Encoder: {encoder}\nNext:    python train.py --set=initial_encoder={encoder} ..."
        )
        return
    if about["kind"] == "network":
        print(f"Rotations count as in the authors' release of {about['release']} (--release).")
        print(f"Network: {encoder.with_name('network.keras')}")
    if about["kind"] == "classifier":
        print(f"Classes: {encoder.with_name('classifier.keras')}")
    print(f"Encoder: {encoder}\nNext:    python evaluate.py --run={encoder.parent} --dataset=...")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"sit_keras.convert: {error}")
