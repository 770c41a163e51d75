"""What happens around the steps of a run: the ledger, neighbours, sheets, files, the report."""

import contextlib
import math
import os
import pathlib
import signal
import sys
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from sit_keras.checkpoint import Checkpoints
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.evaluation import FrozenFeatures, knn_accuracy
from sit_keras.visualize import reconstruction_sheet


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite."""


class Stopped(Exception):
    """Somebody asked the run to stop, and it did, with its state saved."""


class Position(keras.callbacks.Callback):
    """Counts the steps of the whole run, for the callbacks behind it.

    Args:
        step: int. Steps taken before.
    """

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1


class StopOnNonFinite(keras.callbacks.Callback):
    """Raises `NonFiniteLoss` at the very step at which a loss is NaN or infinite.

    At the end of an epoch it also looks at the weights, which a last step may have shattered, so
    that a callback behind it never saves a broken state.

    Args:
        position: Position.
    """

    def __init__(self, position: Position):
        super().__init__()
        self._position = position

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check({name: logs[name] for name in ("loss", *self.model.tasks)})

    def on_epoch_end(self, epoch, logs=None):
        norm = tf.linalg.global_norm([v.value for v in self.model.trainable_variables])
        self._check({**logs, "the norm of the weights": norm})

    def _check(self, values):
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            kept = f"that of epoch {self._epoch}" if self._epoch else "none, this was the first"
            raise NonFiniteLoss(
                f"After step {self._position.step} these are not finite: {', '.join(bad)}. Lower "
                "--learning_rate, clip the gradients (--clip_norm=1), or train in "
                f"--precision=float32. The last good checkpoint: {kept}."
            )


class StopOnSignal(keras.callbacks.Callback):
    """On Ctrl-C or SIGTERM saves the state after the step at hand and raises `Stopped`.

    A second signal ends the process at once. It belongs behind `SaveState`.

    Args:
        checkpoints: Checkpoints.
        position: Position.
    """

    def __init__(self, checkpoints: Checkpoints, position: Position):
        super().__init__()
        self._checkpoints = checkpoints
        self._position = position
        self._received = None

    @contextlib.contextmanager
    def listening(self):
        """Catches the signals while the context lasts."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may listen
            return
        before = {each: signal.signal(each, self._note) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _note(self, number, frame):
        self._received = signal.Signals(number).name
        print(
            f"\n{self._received}: saving after this step; once more to leave at once.", flush=True
        )
        signal.signal(number, signal.SIG_DFL)

    def on_train_batch_end(self, batch, logs=None):
        is_last = batch + 1 == self.params["steps"]  # then the epoch is about to be saved whole
        if self._received and not is_last:
            self._checkpoints.save(self._position.step)
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        if self._received:
            self._stop()

    def _stop(self):
        raise Stopped(
            f"Stopped by {self._received} and saved after step {self._position.step}. The same "
            "command goes on from there."
        )


class TaskLedger(keras.callbacks.Callback):
    """Adds to the epoch's logs: alphas, effective weights, and each task's pull at the encoder.

    `share_TASK` is the task's part of the sum of the norms of the encoder's gradients.

    Args:
        views: a batch of views, the same every epoch.
    """

    def __init__(self, views: dict):
        super().__init__()
        self._views = views

    def set_model(self, model):
        super().set_model(model)
        self._norms = tf.function(model.task_gradient_norms)

    def on_epoch_end(self, epoch, logs=None):
        weighting = self.model.weighting
        logs.update({f"alpha_{task}": float(a) for task, a in weighting.alphas().items()})
        logs.update({f"weight_{task}": float(w) for task, w in weighting.task_weights().items()})
        norms = {task: float(norm) for task, norm in self._norms(self._views).items()}
        total = max(sum(norms.values()), 1e-12)
        logs.update({f"share_{task}": norm / total for task, norm in norms.items()})
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class Neighbours(keras.callbacks.Callback):
    """Adds `knn_accuracy` to the epoch's logs: held-out images classified by the training ones.

    Args:
        train: ImageSet, all labelled.
        held_out: ImageSet, all labelled.
        size: int. Of the encoder's input in pixels.
        eval_crop: float. See `ViewConfig`.
    """

    def __init__(self, train: ImageSet, held_out: ImageSet, size: int, eval_crop: float):
        super().__init__()
        self._labels = train.class_labels(), held_out.class_labels()
        self._batches = [eval_batches(images, size, eval_crop) for images in (train, held_out)]

    def set_model(self, model):
        super().set_model(model)
        self._features = FrozenFeatures(model.encoder)

    def on_epoch_end(self, epoch, logs=None):
        train, held_out = (self._features(batches) for batches in self._batches)
        train_labels, held_out_labels = self._labels
        logs["knn_accuracy"] = knn_accuracy(train, train_labels, held_out, held_out_labels)


class Sheets(keras.callbacks.Callback):
    """Writes a sheet of clean, corrupted and restored images every so many epochs and at the end.

    Args:
        views: a batch of views; the first eight images are shown, one view of each.
        folder: pathlib.Path.
        every: int. Epochs.
        epochs: int. Of the whole run.
    """

    def __init__(self, views: dict, folder: pathlib.Path, every: int, epochs: int):
        super().__init__()
        self._epochs = epochs
        self._views = {name: value[:8, 0] for name, value in views.items()}
        self._folder = folder
        self._every = every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            self.write(self._folder / f"epoch_{epoch + 1:04d}.png")

    def write(self, path: pathlib.Path) -> None:
        """Writes the sheet of the present weights."""
        outputs = self.model(self._views["corrupted"], training=False)
        tasks = self.model.tasks
        predicted = np.argmax(outputs["rotation"], -1) if "rotation" in tasks else None
        restored = outputs["reconstruction"].numpy() if "reconstruction" in tasks else None
        path.parent.mkdir(parents=True, exist_ok=True)
        reconstruction_sheet(
            clean=self._views["clean"].numpy(),
            corrupted=self._views["corrupted"].numpy(),
            restored=restored,
            rotation=self._views["rotation"].numpy(),
            predicted_rotation=predicted,
            path=path,
        )


class SaveState(keras.callbacks.Callback):
    """Saves a checkpoint and the encoder after each epoch; a file is complete or not there.

    Args:
        checkpoints: Checkpoints.
        position: Position.
        encoder_path: pathlib.Path. Of the `.keras` file.
    """

    def __init__(self, checkpoints: Checkpoints, position: Position, encoder_path: pathlib.Path):
        super().__init__()
        self._checkpoints = checkpoints
        self._position = position
        self._encoder_path = encoder_path

    def on_epoch_end(self, epoch, logs=None):
        self._checkpoints.save(self._position.step)
        aside = self._encoder_path.with_name(".writing.keras")
        self.model.encoder.save(aside)
        os.replace(aside, self._encoder_path)


class Report(keras.callbacks.Callback):
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
                "Per task: raw loss, accuracy, learned alpha, x its weight in the loss, and its "
                "share of the pull at the encoder."
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
        return f"{text} x{logs[f'weight_{task}']:.2f} pull {logs[f'share_{task}']:.0%}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
