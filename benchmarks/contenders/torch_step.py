"""A good PyTorch step: views of the whole batch at once, one pass, its own attention and AdamW.

Shapes: B images, M = 2 B views in a row.
"""

import os
import shutil

import numpy as np
import torch

from benchmarks.contenders.torch_network import PretextNetwork, neighbours, parameter_groups
from benchmarks.contenders.torch_views import draw, two_views
from sit_keras.config.settings import RunConfig


def good_step(config: RunConfig, images: np.ndarray, precision: str, compiled: bool):
    """Returns a function that trains on the next batch and returns the loss, not yet as a number.

    Args:
        config: RunConfig.
        images: (N, H, W, 3) uint8.
        precision: str. `float32`, or `bfloat16` by autocast.
        compiled: bool. By `torch.compile`, views as well as network.
    """
    network = PretextNetwork(config.model, fused=True)
    groups = parameter_groups(network, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.peak_learning_rate, fused=True)
    make_views, loss_of = views_maker(config, compiled), loss_maker(network, precision, compiled)
    batches = _endless(torch.from_numpy(images), config.batch_size)

    def step():
        loss = loss_of(*make_views(next(batches)), config.temperature)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def views_maker(config: RunConfig, compiled: bool):
    """Returns the function from images (B, H, W, 3) uint8 to what `two_views` returns."""

    def make_views(images):
        return two_views(images, draw(len(images), config.model.image_size), config)

    return _compile(make_views) if compiled else make_views


def loss_maker(network: PretextNetwork, precision: str, compiled: bool):
    """Returns the function from corrupted views, clean views, rotations and a temperature to the
    total loss, in one pass."""

    def loss_of(corrupted, clean, rotation, temperature):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = network(corrupted)
        return network.loss(outputs, clean, rotation, neighbours(len(clean)), temperature)

    return _compile(loss_of) if compiled else loss_of


def _compile(function):
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        raise SystemExit("torch.compile is left out: it needs a C++ compiler, and none was found.")
    return torch.compile(function, dynamic=False)


def _endless(images, batch_size):
    while True:
        for rows in torch.randperm(len(images)).split(batch_size):
            if len(rows) == batch_size:
                yield images[rows]
