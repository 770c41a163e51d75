"""The authors' network at a small size, for tests: its sizes, its weights by their names."""

import ast

import numpy as np

from sit_keras.config.network import NetworkConfig

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def golden_config(golden):
    sizes = ast.literal_eval(str(golden["cfg"]))
    return NetworkConfig(
        image_size=sizes["img_size"],
        patch_size=sizes["patch_size"],
        hidden_dim=sizes["embed_dim"],
        num_layers=sizes["depth"],
        num_heads=sizes["num_heads"],
        mlp_dim=4 * sizes["embed_dim"],
    )


def group(golden, prefix):
    return {k.removeprefix(prefix): golden[k] for k in golden.files if k.startswith(prefix)}


def to_nhwc(images):
    return np.transpose(images, (0, 2, 3, 1))
