"""What is measured and kept after each epoch: validation, gradient shares, sheets, scalars."""

import gc
import math
import os
import pathlib
import typing

import keras
import numpy as np
import tensorflow as tf

from sit_keras.config.files import remove_unfinished
from sit_keras.config.progress import Progress
from sit_keras.plots.image_grids import reconstruction_sheet
from sit_keras.runs.tensorboard import BoardLog
from sit_keras.training import strategy
from sit_keras.training.micro_batches import losses_in_parts, smallest_parts, task_gradient_norm

# A batch of views, or what makes one when it is first needed.
Batch = dict[str, tf.Tensor] | typing.Callable[[], dict[str, tf.Tensor]]

# Views of validation, the same after each epoch, that are kept rather than made again.
MAX_KEPT_BYTES = 64 * 2**20


class ValidationLosses(keras.callbacks.Callback):
    """Adds the losses on held-out images to the epoch's logs, as `val_` and their names.

    One device computes them, so they do not depend on how many devices share the training. Every
    worker gets those of the chief, so that callbacks behind this one decide alike everywhere.

    Args:
        batches: dataset of images (B, H, W, C), or of pairs of crops, the same every epoch.
        at_once: int. Images that go through the network at once.
    """

    def __init__(self, batches: tf.data.Dataset, at_once: int):
        super().__init__()
        self._batches = batches
        self._at_once = at_once

    def set_model(self, model):
        super().set_model(model)

        def losses(views):
            batch = views["corrupted"].shape[0]
            parts = smallest_parts(batch, self._at_once, model.turned_every or 1)
            found, accuracies = losses_in_parts(model, views, parts)
            return {"loss": model.weighting(found), **found, **accuracies}

        self._losses = tf.function(losses, autograph=False)
        self._kept = None

    def on_epoch_end(self, epoch, logs=None):
        replicas, names = self.model.distribute_strategy, list(self.model.trackers)
        means = dict.fromkeys(names, 0.0)
        if strategy.is_chief(replicas):
            found = []
            with Progress("validation", unit="batches") as progress:
                for views in self._views():
                    found.append(self._losses(views))
                    progress.advance()
            means = {name: float(np.mean([each[name] for each in found])) for name in names}
        for name in names:
            logs[f"val_{name}"] = strategy.from_chief(replicas, means[name])

    def _views(self):
        """Yields the views of each batch: those that are kept, if all of them are small enough."""
        if self._kept is not None:
            yield from self._kept
            return
        kept, size = [], 0
        for step, images in enumerate(self._batches):
            views = self.model.make_views(images, tf.constant(step, tf.int64), validation=True)
            yield views
            size += sum(x.dtype.size * x.shape.num_elements() for x in views.values())
            kept = [*kept, views] if size <= MAX_KEPT_BYTES else []
        if size <= MAX_KEPT_BYTES:
            self._kept = kept


class TaskGradients(keras.callbacks.Callback):
    """Adds to the epoch's logs: alphas, effective weights, and each task's share of the gradient.

    `share_TASK` is the norm of the task's gradient at the backbone's weights, as a share of the sum
    of these norms over all tasks.

    Args:
        views: a batch of views, the same every epoch; or a function that returns it.
        at_once: int or None. Images that go through the network at once; None for all of them.
        every: int. Epochs between two measurements of the shares, which are NaN in the others. The
            first epoch has one.
        epochs: int or None. Of the whole training, the last of which has one, too.
    """

    def __init__(
        self,
        views: Batch,
        at_once: int | None = None,
        every: int = 1,
        epochs: int | None = None,
    ):
        super().__init__()
        self._views = views
        self._at_once = at_once
        self._every = every
        self._epochs = epochs

    def set_model(self, model):
        super().set_model(model)

        def norm(views, factors):
            batch = views["corrupted"].shape[0]
            parts = smallest_parts(batch, self._at_once or batch, model.turned_every or 1)
            return task_gradient_norm(model, views, tf.unstack(factors), parts)

        self._norm = tf.function(norm, autograph=False)

    def on_epoch_end(self, epoch, logs=None):
        weighting = self.model.weighting
        logs.update({f"alpha_{task}": float(a) for task, a in weighting.alphas().items()})
        logs.update({f"weight_{task}": float(w) for task, w in weighting.task_weights().items()})
        norms = dict.fromkeys(self.model.tasks, float("nan"))
        if is_due(epoch, self._every, self._epochs):
            views, alone = _made(self._views), np.eye(len(norms), dtype="float32")
            with Progress("gradient shares", len(norms), "tasks") as progress:
                for task, factors in zip(norms, alone, strict=True):
                    norms[task] = float(self._norm(views, factors))
                    progress.advance()
        total = max(sum(norms.values()), 1e-12)
        logs.update({f"share_{task}": norm / total for task, norm in norms.items()})
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class ReconstructionSheets(keras.callbacks.Callback):
    """Writes a sheet of clean, corrupted and restored images every so many epochs and at the end.

    Args:
        views: a batch of views, or a function that returns it; the first eight images are shown,
            one view of each.
        folder: where the PNG files go.
        every: int. Epochs.
        epochs: int or None. Of the whole training, the last of which has a sheet too.
        log: BoardLog or None. Shows them in TensorBoard too.
    """

    def __init__(
        self,
        views: Batch,
        folder: str | os.PathLike,
        every: int = 1,
        epochs: int | None = None,
        log: BoardLog | None = None,
    ):
        super().__init__()
        self._epochs = epochs
        self._views = views
        self._folder = pathlib.Path(folder)
        self._log = log
        self._every = every

    def on_train_begin(self, logs=None):
        remove_unfinished(self._folder)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            path = self._folder / f"epoch_{epoch + 1:04d}.png"
            self._write(path)
            if self._log is not None:
                self._log.add_picture(path, "sheet", step=epoch)
            gc.collect()  # a figure is one large cycle of references, of which dozens would wait

    def _write(self, path):
        views = {name: value[:8, 0] for name, value in _made(self._views).items()}
        outputs = self.model.network(views["corrupted"], training=False)
        tasks = self.model.tasks
        predicted = np.argmax(outputs["rotation_logits"], -1)
        reconstruction_sheet(
            clean=views["clean"].numpy(),
            corrupted=views["corrupted"].numpy(),
            restored=outputs["reconstruction"].numpy() if "reconstruction" in tasks else None,
            rotation=views["rotation"].numpy(),
            predicted_rotation=predicted if "rotation" in tasks else None,
            path=path,
            preprocessing=self.model.backbone.preprocessing,
        )


class EpochScalars(keras.callbacks.Callback):
    """Writes the epoch's logs for TensorBoard, as `keras.callbacks.TensorBoard` names them.

    That callback takes no folder whose name is not UTF-8.

    Args:
        folder: gets a log in `train`, and one in `validation` if there is one.
    """

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        folder = pathlib.Path(folder)
        self._train, self._validation = BoardLog(folder / "train"), BoardLog(folder / "validation")

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            if math.isnan(value):
                continue
            board = self._validation if name.startswith("val_") else self._train
            board.add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        self._train.flush()
        self._validation.flush()


def is_due(epoch: int, every: int, epochs: int | None) -> bool:
    """Whether something is measured after an epoch (from 0): every so many, and after the last."""
    return epoch % every == 0 or epoch + 1 == epochs


def _made(views):
    return views() if callable(views) else views
