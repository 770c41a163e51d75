"""Computes one pre-training step with the core alone, on the backend that KERAS_BACKEND names.

python tests/backend_case.py INPUTS.npz OUTPUTS.npz
"""

import json
import os
import sys

import numpy as np

if os.environ["KERAS_BACKEND"] == "jax":
    sys.modules["tensorflow"] = None  # as on a machine that has none

import keras  # noqa: E402

from sit_keras import build_ssl_model, pretext_views, weight_names  # noqa: E402
from sit_keras.config import CorruptionConfig, SiTConfig, ViewConfig  # noqa: E402
from sit_keras.losses import nt_xent, reconstruction_l1, rotation_cross_entropy  # noqa: E402
from sit_keras.weighting import UncertaintyWeighting  # noqa: E402

TASKS = ("reconstruction", "rotation", "contrastive")


def views(inputs, config):
    crops = pretext_views.crop(inputs["images"], inputs["crop"], config.square_size, ViewConfig())
    crops = keras.ops.reshape(crops, (-1, *crops.shape[2:]))
    clean, rotation = pretext_views.look(crops, inputs["look"], ViewConfig())
    corruption = CorruptionConfig(colour=True)
    corrupted = pretext_views.corrupt(clean, inputs["corruption"], inputs["noise"], corruption)
    return {"clean": clean, "corrupted": corrupted, "rotation": rotation}


def task_losses(outputs, drawn):
    samples = np.arange(len(drawn["rotation"]))
    contrast, _ = nt_xent(
        outputs["contrastive"], outputs["contrastive"], samples, samples ^ 1, temperature=0.5
    )
    each = {
        "reconstruction": reconstruction_l1(drawn["clean"], outputs["reconstruction"]),
        "rotation": rotation_cross_entropy(drawn["rotation"], outputs["rotation"]),
        "contrastive": contrast,
    }
    return {task: keras.ops.mean(each[task]) for task in TASKS}


def with_gradients(network, weighting, drawn):
    """The total, losses and outputs, and the gradients of the total."""
    variables = network.trainable_variables + weighting.trainable_variables

    if keras.backend.backend() == "jax":
        import jax

        count = len(network.trainable_variables)

        def total(values):
            outputs, _ = network.stateless_call(
                values[:count], [v.value for v in network.non_trainable_variables],
                drawn["corrupted"],
            )  # fmt: skip
            losses = task_losses(outputs, drawn)
            value, _ = weighting.stateless_call(values[count:], [], losses)
            return value, (losses, outputs)

        (value, (losses, outputs)), gradients = jax.value_and_grad(total, has_aux=True)(
            [v.value for v in variables]
        )
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            outputs = network(drawn["corrupted"], training=False)
            losses = task_losses(outputs, drawn)
            value = weighting(losses)
        gradients = tape.gradient(value, [v.value for v in variables])
    named = {v.path: g for v, g in zip(variables, gradients, strict=True)}
    return value, losses, outputs, named


def main(source, target):
    with np.load(source) as file:
        inputs = dict(file)
    config = SiTConfig(**json.loads(str(inputs.pop("config"))))
    network, weighting = build_ssl_model(config), UncertaintyWeighting(TASKS)
    state = {k.removeprefix("state/"): v for k, v in inputs.items() if k.startswith("state/")}
    weight_names.load_state(network, state)
    drawn = views(inputs, config)
    total, losses, outputs, gradients = with_gradients(network, weighting, drawn)
    results = {f"view/{name}": value for name, value in drawn.items()}
    results |= {f"output/{name}": value for name, value in outputs.items()}
    results |= {f"loss/{name}": value for name, value in {**losses, "total": total}.items()}
    results |= {f"gradient/{name}": value for name, value in gradients.items()}
    np.savez(target, **{name: np.asarray(value) for name, value in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
