"""Trains on one or several replicas and writes what came out; run in a process of its own.

Usage: python replica_cases.py STRATEGY OUTPUT.npz, with TF_CONFIG set for `multiworker`
"""

import functools
import sys

import keras
import numpy as np
import tensorflow as tf

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.network import SiTConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches, step_views
from sit_keras.data.sources import load_source
from sit_keras.data.views import TwoViews
from sit_keras.evaluation.features import FrozenFeatures, select_features
from sit_keras.evaluation.finetune import finetune
from sit_keras.models.backbone import build_encoder
from sit_keras.training import multi_worker, strategy
from sit_keras.training.pretrainer import SiTPretrainer

CONFIG = SiTConfig(8, 4, 12, 2, 2, 16, drop_path_rate=0.0, projection_dim=6)
STEPS = 20

sgd = functools.partial(keras.optimizers.SGD, 0.01)


def scaled_sgd():
    return keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=1024.0)


# Each case: arguments of the pretrainer, and its optimizer.
CASES = {
    "plain": ({}, sgd),
    "scaled and clipped": ({"clip_norm": 0.3}, scaled_sgd),
    "scaled, clipped, in parts": ({"clip_norm": 0.3, "micro_batches": 2}, scaled_sgd),
    "local": ({"negatives": "local"}, sgd),
}


def batches():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    return step_views(ImageSet(pixels, np.full(16, -1)), TwoViews(8, seed=1), 8, 0, STEPS)


def a_nan_in_the_last_image():
    views = next(iter(batches()))
    views["corrupted"] = tf.concat(
        [views["corrupted"][:-1], np.nan * views["corrupted"][-1:]], axis=0
    )
    return tf.data.Dataset.from_tensor_slices(views).batch(8, drop_remainder=True)


def build(strategy, settings, optimizer):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = SiTPretrainer(CONFIG, **settings)
        model.compile(optimizer())
        model.optimizer.build(model.trainable_variables)
    return model


def weights(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


class StepLosses(keras.callbacks.Callback):
    """Collects the loss of each step, as the mean of an epoch of one step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])


def fit(model, dataset, epochs):
    """Returns the losses of `epochs` steps."""
    collected = StepLosses()
    settings = dict(epochs=epochs, steps_per_epoch=1, callbacks=[collected])
    if strategy.is_multi_worker(model.distribute_strategy):
        multi_worker.fit(model, dataset, initial_epoch=0, validation_data=None, **settings)
    else:
        model.fit(dataset, shuffle=False, verbose=0, **settings)
    return collected.losses


def main(strategy, output):
    tf.config.experimental.enable_op_determinism()  # or threads would round as they please
    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
    strategy = strategy.make_strategy(strategy)
    results = {"replicas": strategy.num_replicas_in_sync}
    for name, case in CASES.items():
        model = build(strategy, *case)
        before = weights(model)
        results[f"{name}/losses"] = fit(model, batches(), STEPS)
        results[f"{name}/weights"] = weights(model)
        results[f"{name}/moved"] = np.abs(weights(model) - before).max()

    for name in ("plain", "scaled, clipped, in parts"):
        model = build(strategy, *CASES[name])
        before = weights(model)
        fit(model, a_nan_in_the_last_image(), 1)
        results[f"{name}/moved by a NaN"] = np.any(weights(model) != before)

    model = build(strategy, {}, sgd)
    images = np.random.default_rng(1).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
    # Batches that do not divide among two.
    images = eval_batches(ImageSet(images, np.full(11, -1)), 8, eval_crop=1.0, batch_size=5)
    features = FrozenFeatures(model.encoder)(images)
    results["features"] = select_features(features, "tokens")

    noise = model.noise
    drawn = strategy.run(tf.function(lambda: keras.random.uniform((5,), seed=noise)))
    results["noise"] = strategy.experimental_local_results(drawn)
    if not strategy.is_multi_worker(strategy):  # evaluation has one machine
        results |= fine_tuned(sys.argv[1], output + ".folder")
    np.savez(output, **results)


def fine_tuned(strategy, folder):
    """The weights of a classifier, all of them trained or only its heads."""
    source = load_source("digits")
    train, test = source.train.subset(104, 0), source.test.subset(81, 0)
    keras.utils.set_random_seed(0)
    encoder = build_encoder(CONFIG)
    results = {}
    for frozen in (False, True):
        config = FinetuneConfig(
            frozen=frozen, epochs=3, batch_size=26, warmup_epochs=1, drop_path_rate=0.0
        )
        path = f"{folder}/{frozen}"
        results[f"accuracy, frozen: {frozen}"] = finetune(
            encoder, train, test, config, path, strategy
        )["accuracy"]
        results[f"fine-tuned, frozen: {frozen}"] = weights(
            keras.saving.load_model(f"{path}/classifier.keras")
        )
    return results


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
