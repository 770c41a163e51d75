"""Trains on one or several replicas and writes what came out; run in a process of its own.

Usage: python replica_cases.py STRATEGY OUTPUT.npz, with TF_CONFIG set for `multiworker`
"""

import functools
import sys

import keras
import numpy as np
import tensorflow as tf

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.settings import CorruptionConfig, ViewConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import WHOLE, Shard, eval_batches, step_images, step_views
from sit_keras.data.sources import load_source
from sit_keras.evaluation.features import FrozenFeatures, select_features
from sit_keras.evaluation.finetune import finetune
from sit_keras.models import losses
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.training import multi_worker, strategy
from sit_keras.training.pretrainer import SiTPretrainer

NETWORK = dict(image_shape=(8, 8, 3), patch_size=4, hidden_dim=12, num_layers=2, num_heads=2,
               mlp_dim=16, drop_path_rate=0.0)  # fmt: skip
COLOURS = ViewConfig(
    jitter_probability=0.8, hue=0.1, greyscale_probability=0.2, solarize_probability=0.2
)
ALIGNED = CorruptionConfig(align=4)
STEPS = 20

sgd = functools.partial(keras.optimizers.SGD, 0.01)


def scaled_sgd():
    return keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=1024.0)


# Each case: arguments of the pretrainer, its optimizer, and what of the network is another.
CASES = {
    "plain": ({}, sgd),
    "scaled and clipped": ({"clip_norm": 0.3}, scaled_sgd),
    "scaled, clipped, in parts": (
        {"clip_norm": 0.3, "micro_batches": 2, "views": COLOURS, "corruption": ALIGNED},
        scaled_sgd,
    ),
    "local, remat": ({"negatives": "local", "remat": True}, sgd),
    "stem and head": ({"projection_layers": 3, "projection_norm": "layer"}, sgd, {"stem": "conv"}),
}


def images():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
    return ImageSet(pixels, np.full(32, -1))


def batches_of(model):
    """Returns what makes the batches of 16 images of a shard."""
    return lambda shard=WHOLE: step_images(images(), model.two_views, 16, 0, STEPS, shard=shard)


def a_nan_in_the_last_image(model):
    """Returns the same of one batch of views, the last image of which is not a number."""

    def batches(shard=WHOLE):
        share = 16 // shard.count

        def change(views):
            is_last = shard.first + shard.local == shard.count
            bad = tf.reshape(tf.range(share) == share - 1, (-1, 1, 1, 1, 1)) & is_last
            return {**views, "corrupted": tf.where(bad, np.nan, views["corrupted"])}

        return step_views(images(), model.two_views, 16, 0, 1, shard=shard).map(change)

    return batches


def build(strategy, settings, optimizer, changes=None):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        backbone = SiTBackbone(**NETWORK, **(changes or {}))
        model = SiTPretrainer(backbone, projection_dim=6, seed=1, **settings)
        model.compile(optimizer())
        model.optimizer.build(model.trainable_variables)
    return model


def weights(model):
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


class StepLosses(keras.callbacks.Callback):
    """Collects the loss of each step, as the mean of an epoch of one step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])


def fit(model, batches, epochs):
    """Returns the losses of `epochs` steps."""
    collected = StepLosses()
    settings = dict(epochs=epochs, steps_per_epoch=1, callbacks=[collected])
    if strategy.is_multi_worker(model.distribute_strategy):
        multi_worker.fit(model, batches, initial_epoch=0, **settings)
    else:
        model.fit(batches(), shuffle=False, verbose=0, **settings)
    return collected.losses


def views_of_a_step(model):
    """Returns the views that the replicas of this process make of step 3, one after the other."""
    made = []

    @tf.function(autograph=False)
    def make(batch):
        return model.make_views(batch, tf.constant(3, tf.int64))

    replicas = model.distribute_strategy
    if strategy.is_multi_worker(replicas):
        shard = Shard(replicas.cluster_resolver.task_id, 1, replicas.num_replicas_in_sync)
        (batch,) = step_images(images(), model.two_views, 16, 3, 4, shard=shard)
        batch = replicas.experimental_distribute_values_from_function(lambda _: batch)
    else:
        (batch,) = replicas.experimental_distribute_dataset(
            step_images(images(), model.two_views, 16, 3, 4)
        )
    made = replicas.run(make, args=(batch,))
    return {
        f"views/{name}": np.concatenate(replicas.experimental_local_results(value))
        for name, value in made.items()
    }


def contrast(model, anchors_at_once):
    """Returns the contrastive loss of 24 embeddings, and its gradients on the replicas here."""
    embeddings = np.random.default_rng(2).normal(size=(24, 6)).astype("float32")
    embeddings[1::2] += embeddings[::2]
    replicas = model.distribute_strategy
    share = 24 // replicas.num_replicas_in_sync

    def measure(own):
        with tf.GradientTape() as tape:
            tape.watch(own)
            found, accuracies = model.objective.with_contrast({}, {}, own)
            loss = found["contrastive"] / replicas.num_replicas_in_sync
        context = tf.distribute.get_replica_context()
        values = context.all_reduce("sum", [loss, accuracies["contrastive_accuracy"]])
        return values, tape.gradient(loss, own)

    own = replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(
            np.split(embeddings, 24 // share)[context.replica_id_in_sync_group]
        )
    )
    losses.ANCHORS_AT_ONCE, before = anchors_at_once, losses.ANCHORS_AT_ONCE
    run = tf.function(lambda own: replicas.run(measure, args=(own,)), autograph=False)
    values, gradients = run(own)
    losses.ANCHORS_AT_ONCE = before
    loss, accuracy = (replicas.experimental_local_results(value)[0] for value in values)
    gradients = np.concatenate(replicas.experimental_local_results(gradients))
    return {
        f"contrast of {anchors_at_once}/loss": loss,
        f"contrast of {anchors_at_once}/accuracy": accuracy / replicas.num_replicas_in_sync,
        f"contrast of {anchors_at_once}/gradients": gradients,
    }


def main(name, output):
    tf.config.experimental.enable_op_determinism()  # or threads would round as they please
    if name == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
    replicas = strategy.make_strategy(name)
    results = {"replicas": replicas.num_replicas_in_sync}
    for case, arguments in CASES.items():
        model = build(replicas, *arguments)
        before = weights(model)
        results[f"{case}/losses"] = fit(model, batches_of(model), STEPS)
        results[f"{case}/weights"] = weights(model)
        results[f"{case}/moved"] = np.abs(weights(model) - before).max()

    for case in ("plain", "scaled, clipped, in parts"):
        model = build(replicas, *CASES[case])
        before = weights(model)
        fit(model, a_nan_in_the_last_image(model), 1)
        results[f"{case}/moved by a NaN"] = np.any(weights(model) != before)

    model = build(replicas, {}, sgd)
    results |= views_of_a_step(model)
    if name != "multiworker":
        results |= contrast(model, 1024) | contrast(model, 5)
    pixels = np.random.default_rng(1).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
    # Batches that do not divide among two.
    batches = eval_batches(
        ImageSet(pixels, np.full(11, -1)), ImagePreprocessing.of(model.backbone), batch_size=5
    )
    results["features"] = select_features(FrozenFeatures(model.backbone)(batches), "tokens")

    noise = model.backbone.noise
    drawn = replicas.run(tf.function(lambda: keras.random.uniform((5,), seed=noise)))
    results["noise"] = replicas.experimental_local_results(drawn)
    if not strategy.is_multi_worker(replicas):  # evaluation has one machine
        results |= fine_tuned(name, output + ".folder")
    np.savez(output, **results)


def fine_tuned(name, folder):
    """The weights of a classifier, all of them trained or only its heads."""
    source = load_source("digits")
    train, test = source.train.subset(104, 0), source.test.subset(81, 0)
    keras.utils.set_random_seed(0)
    encoder = SiTBackbone(**NETWORK)
    results = {}
    for frozen in (False, True):
        config = FinetuneConfig(
            frozen=frozen, epochs=3, batch_size=26, warmup_epochs=1, drop_path_rate=0.0
        )
        path = f"{folder}/{frozen}"
        results[f"accuracy, frozen: {frozen}"] = finetune(encoder, train, test, config, path, name)[
            "accuracy"
        ]
        results[f"fine-tuned, frozen: {frozen}"] = weights(
            keras.saving.load_model(f"{path}/classifier.keras")
        )
    return results


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
