"""Training a classifier with labels: the whole network, or heads on a frozen encoder.

Shapes: B images, G heads side by side, T = 2 tokens, K classes.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import shutil
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.network import NUM_CHANNELS
from sit_keras.config.serialization import to_dict
from sit_keras.data.images import ImageSet
from sit_keras.data.labelled_views import AugmentedViews, labelled_views
from sit_keras.data.pipeline import count_steps
from sit_keras.data.splits import hold_out
from sit_keras.evaluation.features import FrozenFeatures
from sit_keras.evaluation.scores import scores
from sit_keras.models.backbone import SiTEncoder, build_encoder
from sit_keras.models.classifier import build_classifier
from sit_keras.models.heads import ClassifierHead
from sit_keras.models.loading import copy_weights
from sit_keras.models.losses import summed_cross_entropy
from sit_keras.models.optimizers import PlannedAdamW, cosine_schedule, decays
from sit_keras.models.precision import precision
from sit_keras.runs.cached_step import fingerprint, images_fingerprint, once
from sit_keras.runs.files import full_disk_explained, write_json
from sit_keras.runs.log import forget_later_epochs
from sit_keras.training.checkpoint import Checkpoints
from sit_keras.training.guards import NonFiniteLoss
from sit_keras.training.replicas import ReplicaSeed
from sit_keras.training.strategy import make_strategy


def finetune(
    encoder: SiTEncoder,
    train: ImageSet,
    test: ImageSet,
    config: FinetuneConfig,
    folder: str | os.PathLike,
    strategy: str = "auto",
    labels: dict | None = None,
) -> dict:
    """Trains a classifier from an encoder and tests it once, at the end.

    Finished in this folder it is not done again; cut off, it goes on from its last epoch.

    Args:
        encoder: SiTEncoder. Stays as it is; the training begins from a copy.
        train, test: ImageSet, all labelled, of the same classes.
        config: FinetuneConfig. A batch larger than the training images is cut to their number.
        folder: gets `classifier.keras`, `encoder.keras`, `log.csv`, `confusion.png`,
            `settings.json` and `results.json`.
        strategy: str. As for `make_strategy`, of one machine.
        labels: dict or None. What to write to `labels.json`, which tells the training images.

    Returns:
        `accuracy`, `per_class`, `confusion`, `new_weights` (what the encoder did not bring) and,
        if frozen, the `learning_rate` and `weight_decay` chosen, with their `held_out_accuracy`.

    Raises:
        ValueError: if the folder holds another training, the classes differ, or frozen training
            has no held-out image to choose by.
        OSError: if the disk is full; what was trained is kept.
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
    settings = {
        **to_dict(config),
        "model": to_dict(encoder.config),
        "encoder": fingerprint(encoder.get_weights()),
        "train_images": len(train),
        "train": images_fingerprint(train),
        "test": images_fingerprint(test),
    }

    def work(path):
        if labels is not None:
            write_json(path / "labels.json", labels)
        return _train_and_test(encoder, train, test, config, path, strategy)

    with full_disk_explained(pathlib.Path(folder)):
        results = once(folder, settings, work)
    shutil.rmtree(pathlib.Path(folder) / "checkpoints", ignore_errors=True)  # three times a model
    return results


def _train_and_test(encoder, train, test, config, folder, strategy):
    held_out = None
    if config.frozen:
        count = len(train)
        train, held_out = hold_out(train, config.holdout, config.seed)
        if not len(held_out):
            raise ValueError(
                f"Frozen training chooses its head on held-out images, and holdout="
                f"{config.holdout} of {count} leaves none: raise it, or use more labels."
            )
    strategy = make_strategy(strategy)
    if strategy.num_replicas_in_sync > len(train):
        strategy = make_strategy("one")
    replicas = strategy.num_replicas_in_sync
    batch_size = min(config.batch_size, len(train)) // replicas * replicas
    config = dataclasses.replace(config, batch_size=batch_size)
    steps = count_steps(len(train), batch_size)
    plans = _head_plans(config)
    keras.utils.set_random_seed(config.seed)
    with strategy.scope(), precision(config.precision):
        body, heads, model = _build(encoder.config, len(train.class_names), config, len(plans))
        copy_weights(encoder, model)
        if config.frozen:
            body.trainable = False
        model.compile(_optimizer(model, encoder.config, config, plans, steps), summed_cross_entropy)
        checkpoints = Checkpoints(model, folder / "checkpoints")
    print(f"{folder}: {len(train)} images, {config.epochs} epochs of {steps} steps.", flush=True)
    _fit(model, checkpoints, train, encoder.config.square_size, config, steps, folder)

    chosen = {}
    head = heads[0]
    if config.frozen:
        outputs = FrozenFeatures(body).of(held_out, config.views.eval_crop)
        right = [np.mean(_guesses(head, outputs) == held_out.class_labels()) for head in heads]
        best = int(np.argmax(right))
        head = heads[best]
        chosen = {
            "learning_rate": config.learning_rate * plans[best][0],
            "weight_decay": plans[best][1],
            "held_out_accuracy": float(right[best]),
        }
    names = train.class_names
    classifier = build_classifier(build_encoder(body.config), len(names), config.hidden_dim, names)
    new = copy_weights(body, classifier)
    classifier.get_layer("classifier").set_weights(head.get_weights())
    # What is judged is what is saved: in float32, whatever it was trained in.
    saved = classifier.get_layer("sit_encoder")
    features = FrozenFeatures(saved).of(test, config.views.eval_crop)
    guesses = _guesses(classifier.get_layer("classifier"), features)
    saved.save(folder / "encoder.keras")
    classifier.save(folder / "classifier.keras")
    return {**scores(guesses, test, folder), **chosen, "new_weights": new}


def _head_plans(config):
    """The (factor of the learning rate, weight decay) that each head is trained with."""
    if not config.frozen:
        return [(1.0, config.weight_decay)]
    return list(itertools.product(config.head_learning_rates, config.head_weight_decays))


def _build(model_config, num_classes, config, num_heads):
    """The encoder, its heads, and both as one model from images to logits (B, G, T, K)."""
    noise = ReplicaSeed(config.seed, name="seed_generator")
    model_config = dataclasses.replace(model_config, drop_path_rate=config.drop_path_rate)
    body = SiTEncoder(model_config, noise, name="sit_encoder")
    heads = [
        ClassifierHead(num_classes, config.hidden_dim, name=f"head_{i}") for i in range(num_heads)
    ]
    images = keras.Input((*model_config.input_size, NUM_CHANNELS), name="images")
    # Frozen, the encoder drops no paths either (the authors' does).
    tokens = body(images, training=False) if config.frozen else body(images)
    logits = ops.stack([head(tokens, averaged=False) for head in heads], axis=1)
    return body, heads, keras.Model(images, logits)


def _optimizer(model, model_config, config, plans, steps):
    """AdamW in which blocks and heads have their own learning rates and decays."""
    scales, weight_decays = [], []
    for variable in model.trainable_variables:
        part = variable.path.split("/")[0]
        if part.startswith("head_"):
            scale, decay = plans[int(part.removeprefix("head_"))]
        else:
            above = model_config.num_layers + 1 - _depth(part, model_config.num_layers)
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
    """Where a part of the encoder stands: 0 for the embeddings, then the blocks, then the norm."""
    if part.startswith("block_"):
        return int(part.removeprefix("block_")) + 1
    return num_layers + 1 if part == "norm" else 0


def _fit(model, checkpoints, train, size, config, steps, folder):
    """Trains to the last epoch, from the last checkpoint if there is one."""
    checkpoints.sweep()
    done = checkpoints.restore() // steps
    forget_later_epochs(folder / "log.csv", done)
    if done == config.epochs:
        if config.ema_momentum is not None:  # otherwise done by Keras at the end of `fit`
            model.optimizer.finalize_variable_values(model.trainable_variables)
        return
    batches = labelled_views(
        train, AugmentedViews(size, config), config.batch_size, done * steps, config.epochs * steps
    )
    model.fit(
        batches,
        initial_epoch=done,
        epochs=config.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[
            _Progress(config.epochs),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            _Save(checkpoints, steps),
        ],
    )


class _Progress(keras.callbacks.Callback):
    """Shows the epochs as they pass, and stops at a loss that is none."""

    def __init__(self, epochs: int):
        super().__init__()
        self._bar = keras.utils.Progbar(
            epochs, unit_name="epoch", verbose=int(sys.stdout.isatty()), stateful_metrics=["loss"]
        )

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self._stop(f"The loss of a step was {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):
        # The last update may have shattered the weights, which nothing must save then.
        norm = tf.linalg.global_norm([v.value for v in self.model.trainable_variables])
        if not math.isfinite(norm):
            self._stop("The weights became infinite or none")
        self._bar.update(epoch + 1, [("loss", logs["loss"])])

    def _stop(self, what):
        raise NonFiniteLoss(
            f"{what}: lower learning_rate, or train in float32. The state after the epoch before "
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


def _guesses(head, features) -> np.ndarray:
    """The classes (N,) that a head names."""
    return np.argmax(head({name: features[name] for name in head.tokens}), axis=1)
