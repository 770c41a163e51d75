"""What is measured and shown after each epoch: gradients of the tasks, sheets, a line of text."""

import gc
import os
import pathlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from sit_keras.plots.image_grids import reconstruction_sheet
from sit_keras.runs.tensorboard import PictureLog
from sit_keras.training.update import task_gradient_norms


class TaskGradients(keras.callbacks.Callback):
    """Adds to the epoch's logs: alphas, effective weights, and each task's share of the gradient.

    `share_TASK` is the norm of the task's gradient at the backbone's weights, as a share of the sum
    of these norms over all tasks.

    Args:
        views: a batch of views, the same every epoch.
    """

    def __init__(self, views: dict):
        super().__init__()
        self._views = views

    def set_model(self, model):
        super().set_model(model)
        self._norms = tf.function(lambda views: task_gradient_norms(model, views), autograph=False)

    def on_epoch_end(self, epoch, logs=None):
        weighting = self.model.weighting
        logs.update({f"alpha_{task}": float(a) for task, a in weighting.alphas().items()})
        logs.update({f"weight_{task}": float(w) for task, w in weighting.task_weights().items()})
        norms = {task: float(norm) for task, norm in self._norms(self._views).items()}
        total = max(sum(norms.values()), 1e-12)
        logs.update({f"share_{task}": norm / total for task, norm in norms.items()})
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class ReconstructionSheets(keras.callbacks.Callback):
    """Writes a sheet of clean, corrupted and restored images every so many epochs and at the end.

    Args:
        views: a batch of views; the first eight images are shown, one view of each.
        folder: where the PNG files go.
        every: int. Epochs.
        epochs: int or None. Of the whole training, the last of which has a sheet too.
        log: PictureLog or None. Shows them in TensorBoard too.
    """

    def __init__(
        self,
        views: dict,
        folder: str | os.PathLike,
        every: int = 1,
        epochs: int | None = None,
        log: PictureLog | None = None,
    ):
        super().__init__()
        self._epochs = epochs
        self._views = {name: value[:8, 0] for name, value in views.items()}
        self._folder = pathlib.Path(folder)
        self._log = log
        self._every = every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            path = self._folder / f"epoch_{epoch + 1:04d}.png"
            self._write(path)
            if self._log is not None:
                self._log.add(path, "sheet", step=epoch)
            gc.collect()  # a figure is one large cycle of references, of which dozens would wait

    def _write(self, path):
        outputs = self.model.network(self._views["corrupted"], training=False)
        tasks = self.model.tasks
        predicted = np.argmax(outputs["rotation_logits"], -1)
        reconstruction_sheet(
            clean=self._views["clean"].numpy(),
            corrupted=self._views["corrupted"].numpy(),
            restored=outputs["reconstruction"].numpy() if "reconstruction" in tasks else None,
            rotation=self._views["rotation"].numpy(),
            predicted_rotation=predicted if "rotation" in tasks else None,
            path=path,
            preprocessing=self.model.backbone.preprocessing,
        )


class EpochReport(keras.callbacks.Callback):
    """Shows a progress bar for the epoch, then one line of everything it measured.

    Args:
        epochs: int. Of the whole run.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self._epochs = epochs
        self._first_epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._first_epoch is None:
            print(
                "For each task: its loss, accuracy, learned alpha, weight in the total (x), and "
                "share of the gradient at the encoder."
            )
            self._first_epoch = epoch
            self._start = time.monotonic()
        self._epoch_start = time.monotonic()
        self._bar = keras.utils.Progbar(self.params["steps"], verbose=int(sys.stdout.isatty()))

    def on_train_batch_end(self, batch, logs=None):
        self._bar.update(batch + 1, [("loss", float(logs["loss"]))], finalize=False)

    def on_epoch_end(self, epoch, logs=None):
        if sys.stdout.isatty():
            print("\r\x1b[K", end="")  # the line replaces the bar
        now = time.monotonic()
        epochs = self._epochs
        left = (now - self._start) / (epoch + 1 - self._first_epoch) * (epochs - epoch - 1)
        parts = [f"epoch {epoch + 1:{len(str(epochs))}}/{epochs}", f"loss {logs['loss']:.3f}"]
        parts += [self._task(task, logs) for task in self.model.tasks]
        if "knn_accuracy" in logs:
            parts.append(f"kNN {logs['knn_accuracy']:.1%}")
        parts += [f"{now - self._epoch_start:.1f} s", f"ETA {_duration(left)}"]
        print(" | ".join(parts), flush=True)

    def _task(self, task, logs):
        text = f"{task[:3]} {logs[task]:.3f}"
        if f"{task}_accuracy" in logs:
            text += f" acc {logs[f'{task}_accuracy']:.0%}"
        if f"alpha_{task}" in logs:
            text += f" alpha {logs[f'alpha_{task}']:.2f}"
        return f"{text} x{logs[f'weight_{task}']:.2f} gradient {logs[f'share_{task}']:.0%}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
