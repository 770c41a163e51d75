"""Trains a classifier with labels: the whole network, or heads on a frozen encoder.

Shapes: B images, G heads side by side, T = 2 tokens, K classes.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.progress import Progress
from sit_keras.config.serialization import to_dict
from sit_keras.data.images import ImageSet
from sit_keras.data.labelled_views import AugmentedViews, labelled_views
from sit_keras.data.pipeline import count_steps
from sit_keras.data.splits import hold_out
from sit_keras.evaluation.features import FrozenFeatures
from sit_keras.evaluation.scores import scores
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead, SiTImageClassifier
from sit_keras.models.loading import copy_weights
from sit_keras.models.losses import summed_cross_entropy
from sit_keras.models.optimizers import PlannedAdamW, cosine_schedule, decays
from sit_keras.models.precision import precision
from sit_keras.models.saving import save_keras
from sit_keras.models.seeding import seeded
from sit_keras.runs.cached_step import cached_step, fingerprint, images_fingerprint
from sit_keras.runs.files import full_disk_explained, write_json
from sit_keras.runs.log import forget_later_epochs
from sit_keras.training.checkpoint import Checkpoints
from sit_keras.training.fused import fuse
from sit_keras.training.guards import NonFiniteLoss
from sit_keras.training.replicas import fold_in_replica
from sit_keras.training.strategy import make_strategy


def finetune(
    encoder: SiTBackbone,
    train: ImageSet,
    test: ImageSet,
    config: FinetuneConfig,
    folder: str | os.PathLike,
    strategy: str = "auto",
    labels: dict | None = None,
) -> dict:
    """Trains a classifier that starts from an encoder, and tests it once, at the end.

    If the folder holds the finished training, its results are returned. If it holds an interrupted
    one, that goes on from its last epoch.

    Args:
        encoder: SiTBackbone with a square `image_shape`. It is not changed; a copy is trained.
        train, test: ImageSet, all labelled, of the same classes.
        config: FinetuneConfig. A batch larger than the training images is cut to their number.
        folder: gets `classifier.keras`, `encoder.keras`, `log.csv`, `confusion.png`,
            `settings.json` and `results.json`.
        strategy: str. As for `make_strategy`, of one machine.
        labels: dict or None. Written to `labels.json`, to record which training images were used.

    Returns:
        What `scores` returns, `new_weights` (the weights that are not the encoder's) and, if
        frozen, the `learning_rate` and `weight_decay` that were chosen, with their
        `held_out_accuracy`.

    Raises:
        ValueError: if the folder holds another training, the classes differ, the encoder is oblong,
            or frozen training has no held-out image to choose its head on.
        OSError: if the disk is full; the last saved epoch is kept.
        NonFiniteLoss: if the loss becomes NaN or infinite.

    Reference:
        Atito et al. 2021, section 4, and the fine-tuning command of its code: a head on each token,
        their cross-entropies added, their logits averaged.
    """
    if train.class_names != test.class_names:
        raise ValueError(
            f"The classes to train on {train.class_names} are not those to test on "
            f"{test.class_names}."
        )
    height, width, _ = encoder.image_shape
    if height != width:
        raise ValueError(
            f"Training with labels cuts square crops, and the encoder's image_shape is "
            f"{encoder.image_shape}: load it with a square one."
        )
    settings = {
        **to_dict(config),
        "model": encoder.get_config(),
        "encoder": fingerprint(encoder.get_weights()),
        "train_images": len(train),
        "train": images_fingerprint(train),
        "test": images_fingerprint(test),
    }

    def compute(path):
        if labels is not None:
            write_json(path / "labels.json", labels)
        return _train_and_test(encoder, train, test, config, path, strategy)

    with full_disk_explained(pathlib.Path(folder)):
        results = cached_step(folder, settings, compute)
    # A checkpoint is three times as large as the model, and nothing needs it any more.
    shutil.rmtree(pathlib.Path(folder) / "checkpoints", ignore_errors=True)
    return results


def _train_and_test(encoder, train, test, config, folder, strategy):
    held_out = None
    if config.frozen:
        count = len(train)
        train, held_out = hold_out(train, config.holdout, config.seed)
        if not len(held_out):
            raise ValueError(
                f"Frozen training chooses its head on held-out images, and holdout="
                f"{config.holdout} of {count} images holds out none: raise it, or use more labels."
            )
    strategy = make_strategy(strategy)
    if strategy.num_replicas_in_sync > len(train):
        strategy = make_strategy("one")
    replicas = strategy.num_replicas_in_sync
    batch_size = min(config.batch_size, len(train)) // replicas * replicas
    config = dataclasses.replace(config, batch_size=batch_size)
    steps = count_steps(len(train), batch_size)
    plans = _head_plans(config)
    with strategy.scope(), precision(config.precision), seeded(config.seed):
        body, heads, model = _build(encoder, len(train.class_names), config, len(plans))
        copy_weights(encoder, model)
        if config.frozen:
            body.trainable = False
        model.compile(
            _optimizer(model, encoder.num_layers, config, plans, steps), summed_cross_entropy
        )
        checkpoints = Checkpoints(model, folder / "checkpoints", {"network": model})
    print(f"{folder}: {len(train)} images, {config.epochs} epochs of {steps} steps.", flush=True)
    _fit(model, checkpoints, train, body, config, steps, folder)

    chosen = {}
    head = heads[0]
    if config.frozen:
        outputs = FrozenFeatures(body).of(held_out)
        accuracies = [np.mean(_predict(head, outputs) == held_out.class_labels()) for head in heads]
        best = int(np.argmax(accuracies))
        head = heads[best]
        chosen = {
            "learning_rate": config.learning_rate * plans[best][0],
            "weight_decay": plans[best][1],
            "held_out_accuracy": float(accuracies[best]),
        }
    names = train.class_names
    # The model that is saved is tested. It computes in float32, whatever it was trained in.
    saved = body.clone(dtype="float32")
    classifier = SiTImageClassifier(saved, len(names), config.hidden_dim, names)
    new = copy_weights(body, classifier)
    classifier.head.set_weights(head.get_weights())
    features = FrozenFeatures(saved).of(test)
    predicted = _predict(classifier.head, features)
    save_keras(saved, folder / "encoder.keras")
    save_keras(classifier, folder / "classifier.keras")
    return {**scores(predicted, test, folder), **chosen, "new_weights": new}


def _head_plans(config):
    """Returns the (factor of the learning rate, weight decay) that each head is trained with."""
    if not config.frozen:
        return [(1.0, config.weight_decay)]
    return list(itertools.product(config.head_learning_rates, config.head_weight_decays))


def _build(encoder, num_classes, config, num_heads):
    """Returns an encoder, its heads, and both as one model from images to logits (B, G, T, K)."""
    body = encoder.clone(drop_path_rate=config.drop_path_rate, seed=config.seed, dtype=None)
    body.noise.fold = fold_in_replica
    fuse(body)
    heads = [
        ClassifierHead(num_classes, config.hidden_dim, name=f"head_{i}") for i in range(num_heads)
    ]
    images = keras.Input(body.image_shape, name="images")
    # A frozen encoder drops no paths either, unlike the authors'.
    tokens = body(images, training=False) if config.frozen else body(images)
    logits = ops.stack([head(tokens, averaged=False) for head in heads], axis=1)
    return body, heads, keras.Model(images, logits)


def _optimizer(model, num_layers, config, plans, steps):
    """Returns AdamW in which blocks and heads have learning rates and decays of their own."""
    scales, weight_decays = [], []
    for variable in model.trainable_variables:
        part = variable.path.split("/")[0]
        if part.startswith("head_"):
            scale, decay = plans[int(part.removeprefix("head_"))]
        else:
            above = num_layers + 1 - _depth(part, num_layers)
            scale, decay = config.layer_decay**above, config.weight_decay
        scales.append(scale)
        weight_decays.append(decay if decays(variable) else 0.0)
    return PlannedAdamW(
        cosine_schedule(config, steps),
        scales,
        weight_decays,
        use_ema=config.ema_momentum is not None,
        ema_momentum=config.ema_momentum or 0.99,
    )


def _depth(part, num_layers):
    """Returns the depth of a part of the encoder: 0 for the embeddings, then blocks, then norm."""
    if part.startswith("block_"):
        return int(part.removeprefix("block_")) + 1
    return num_layers + 1 if part == "norm" else 0


def _fit(model, checkpoints, train, body, config, steps, folder):
    """Trains to the last epoch, from the last checkpoint if there is one."""
    done = checkpoints.restore() // steps
    forget_later_epochs(folder / "log.csv", done)
    if done == config.epochs:
        if config.ema_momentum is not None:  # which Keras does at the end of `fit`
            model.optimizer.finalize_variable_values(model.trainable_variables)
        return
    views = AugmentedViews(body.image_shape[0], config, body.preprocessing)
    batches = labelled_views(train, views, config.batch_size, done * steps, config.epochs * steps)
    with Progress("fine-tuning", config.epochs * steps, "steps") as progress:
        progress.skip(done * steps)
        model.fit(
            batches,
            initial_epoch=done,
            epochs=config.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[
                _Watch(progress),
                keras.callbacks.CSVLogger(folder / "log.csv", append=True),
                _Save(checkpoints, steps),
            ],
        )


class _Watch(keras.callbacks.Callback):
    """Reports the steps with their loss, and stops at one that is not finite."""

    def __init__(self, progress: Progress):
        super().__init__()
        self._progress = progress

    def on_train_batch_end(self, batch, logs=None):
        self._progress.advance(details=f"loss {logs['loss']:.3f}")
        if not math.isfinite(logs["loss"]):
            self._stop(f"The loss of a step was {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):
        # The last update may have made weights infinite, which must not be saved.
        norm = tf.linalg.global_norm([v.value for v in self.model.trainable_variables])
        if not math.isfinite(norm):
            self._stop("A weight became NaN or infinite")

    def _stop(self, what):
        raise NonFiniteLoss(
            f"{what}: lower learning_rate, or train in float32. The state after the previous epoch "
            "is kept."
        )


class _Save(keras.callbacks.Callback):
    """Saves a checkpoint after each epoch."""

    def __init__(self, checkpoints: Checkpoints, steps: int):
        super().__init__()
        self._checkpoints = checkpoints
        self._steps = steps

    def on_epoch_end(self, epoch, logs=None):
        self._checkpoints.save((epoch + 1) * self._steps)


def _predict(head, features) -> np.ndarray:
    """Returns the classes (N,) that a head predicts."""
    return np.argmax(head({name: features[name] for name in head.tokens}), axis=1)
