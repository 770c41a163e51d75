"""Trains on one or two logical CPUs and writes what came out; run in a process of its own.

Usage: python replica_cases.py REPLICAS OUTPUT.npz
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from sit_keras import SiTConfig, SiTPretrainer, distribution
from sit_keras.data import ImageSet, TwoViews, step_views

CONFIG = SiTConfig(8, 4, 12, 2, 2, 16, drop_path_rate=0.0, projection_dim=6)
STEPS = 20


def scaled(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)


# Each case: arguments of the pretrainer, and its optimizer.
CASES = {
    "plain": ({}, lambda: keras.optimizers.SGD(0.03)),
    "clipped": ({"clip_norm": 0.3}, lambda: keras.optimizers.SGD(0.03)),
    "scaled and clipped": ({"clip_norm": 0.3}, lambda: scaled(keras.optimizers.SGD(0.03))),
    "local": ({"negatives": "local"}, lambda: keras.optimizers.SGD(0.03)),
}


def batches():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    return step_views(ImageSet(pixels, np.full(16, -1)), TwoViews(8, seed=1), 8, 0, STEPS)


def build(strategy, settings, optimizer):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = SiTPretrainer(CONFIG, **settings)
        model.compile(optimizer())
    return model


def main(replicas, output):
    tf.config.experimental.enable_op_determinism()  # or threads would round as they please
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
    )
    strategy = distribution.make_strategy("mirrored" if replicas > 1 else "one")
    results = {"replicas": strategy.num_replicas_in_sync}
    for name, (settings, optimizer) in CASES.items():
        model = build(strategy, settings, optimizer)
        losses = model.fit(
            batches(), epochs=STEPS, steps_per_epoch=1, verbose=0, shuffle=False
        ).history["loss"]
        results[f"{name}/losses"] = losses
        results[f"{name}/weights"] = np.concatenate([w.ravel() for w in model.get_weights()])
        results[f"{name}/size"] = np.linalg.norm(results[f"{name}/weights"])

    # An image that is not a number, on the last replica alone.
    model = build(strategy, *CASES["scaled and clipped"])
    views = next(iter(batches()))
    views["corrupted"] = tf.concat(
        [views["corrupted"][:-1], np.nan * views["corrupted"][-1:]], axis=0
    )
    before = model.get_weights()
    model.fit(tf.data.Dataset.from_tensor_slices(views).batch(8), verbose=0, shuffle=False)
    results["nan/changed"] = any(
        (a != b).any() for a, b in zip(before, model.get_weights(), strict=True)
    )

    generator = build(strategy, {}, lambda: keras.optimizers.SGD()).encoder.get_layer("block_0")
    noise = strategy.run(
        tf.function(lambda: keras.random.uniform((5,), seed=generator.drop_path.seed_generator))
    )
    results["noise"] = np.stack(strategy.experimental_local_results(noise))
    np.savez(output, **results)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
