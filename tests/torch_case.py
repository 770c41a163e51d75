"""Checkpoints of PyTorch for tests: as the authors' training writes them, and a ViT of timm."""

import argparse

import numpy as np
import torch


def tensors(state):
    return {name: torch.tensor(array) for name, array in state.items()}


def save_checkpoint(state, path):
    """As the authors' training writes it: wrapped for several GPUs, with all that is beside it."""
    wrapped = {f"module.{name}": value for name, value in tensors(state).items()}
    saved = {
        "model": wrapped,
        "model_ema": {name: value / 2 for name, value in wrapped.items()},
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 500,
        "max_accuracy": torch.tensor(93.02),
        "args": argparse.Namespace(model="vit", lr=0.1),
    }
    torch.save(saved, path)
    return path


def one_token_state(state, distilled=False):
    """A ViT in timm's names: class token, perhaps DeiT's distillation token, its own heads."""
    kept = {k: v for k, v in state.items() if k.startswith(("patch_embed", "blocks", "norm"))}
    random = np.random.default_rng(0)
    width = state["norm.weight"].shape[0]
    names = ("cls_token", "dist_token") if distilled else ("cls_token",)
    kept |= {name: random.normal(size=(1, 1, width)).astype("float32") for name in names}
    positions = (1, len(names) + state["pos_embed"].shape[1] - 2, width)
    kept["pos_embed"] = random.normal(size=positions).astype("float32")
    kept["head.weight"] = random.normal(size=(1000, width)).astype("float32")
    return kept
