"""Callbacks that keep a run from harm: numbers that are none, signals, full disks, lost states."""

import contextlib
import functools
import json
import math
import pathlib
import signal
import threading
import time

import keras
import tensorflow as tf
from absl import logging

from sit_keras.models.saving import save_keras
from sit_keras.runs.files import is_full_disk
from sit_keras.training import strategy
from sit_keras.training.checkpoint import Checkpoints

# A network that gives nothing else will not mend.
MAX_SKIPPED_IN_A_ROW = 10
MAX_SCALES_IN_A_ROW = 50
# Between two times that the encoder is written, which takes as long as two steps of the digits.
SECONDS_PER_ENCODER = 10


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


class WatchNonFinite(keras.callbacks.Callback):
    """Stops the run at the very step at which a loss is NaN or infinite, or counts such steps.

    The trainer has left their update out by then. What was drawn is written down, one JSON object a
    line, so that `sit_keras.draw_batch` can draw it again. At the end of an epoch it also
    looks at the weights, which a last step may have shattered, so that a callback behind it never
    saves a broken state.

    Args:
        position: Position.
        policy: str. `stop` or `skip`.
        seed: int. Of the run.
        record: pathlib.Path or None. The file to write to.
    """

    def __init__(self, position: Position, policy: str, seed: int, record: pathlib.Path | None):
        super().__init__()
        self._position = position
        self._policy = policy
        self._seed = seed
        self._record = record
        self._skipped_in_a_row = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._skipped = 0

    def on_train_batch_end(self, batch, logs=None):
        bad = _not_finite({task: logs[task] for task in self.model.tasks})
        if not bad and math.isfinite(logs["loss"]):
            self._skipped_in_a_row = 0
            return
        step = self._position.step - 1
        self._skipped_in_a_row += 1
        # Gradients beyond the range of fp16 are how a loss scale finds its size.
        is_search = self.model.scales_loss and not bad
        if is_search and self._skipped_in_a_row < MAX_SCALES_IN_A_ROW:
            return
        self._skipped += 1
        bad = bad or ["the gradients"]
        self._write_down(step, bad)
        if self._policy == "stop" or self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            self._stop(f"In step {step} (the first is 0)", bad)
        logging.warning("Step %d skipped, not finite: %s.", step, ", ".join(bad))

    def on_epoch_end(self, epoch, logs=None):
        if self._skipped == self.params["steps"]:
            self._stop(f"In every step of epoch {epoch + 1}", ["a loss or the gradients"])
        norm = tf.linalg.global_norm([v.value for v in self.model.trainable_variables])
        bad = _not_finite({**logs, "the weights": norm})
        if bad:
            self._stop(f"After step {self._position.step - 1}", bad)
        logs["skipped_steps"] = self._skipped

    def _write_down(self, step, bad):
        if self._record is None:
            return
        line = {"step": step, "seed": self._seed, "not_finite": bad}
        try:
            with self._record.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            logging.warning("%s could not be written down (%s).", line, error.strerror)

    def _stop(self, when, bad):
        kept = f"that of epoch {self._epoch}" if self._epoch else "none, this was the first"
        lines = [
            f"{when} these were not finite: {', '.join(bad)}. Lower --learning_rate, clip the "
            "gradients (--clip_norm=1), or train in --precision=float32; --on_nan=skip leaves such "
            f"steps out. The last good checkpoint: {kept}."
        ]
        if self._record is not None and self._record.exists():
            lines.append(
                f"{self._record} holds seed and step; sit_keras.draw_batch(config, step) "
                "makes the batch again."
            )
        raise NonFiniteLoss(" ".join(lines))


def _not_finite(values):
    return [name for name, value in values.items() if not math.isfinite(value)]


class StopOnSignal(keras.callbacks.Callback):
    """On Ctrl-C or SIGTERM saves the state after the step at hand and raises `Stopped`.

    All workers stop after the same step, whichever received the signal. A second signal ends the
    process at once. It belongs behind `SaveState`.

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
        if not is_last and self._is_anyone_told():
            self._checkpoints.save(self._position.step)
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        if self._is_anyone_told():
            self._stop()

    def _is_anyone_told(self):
        received = int(self._received is not None)
        return strategy.from_all_workers(self.model.distribute_strategy, received).any()

    def _stop(self):
        # Nobody leaves before the chief has saved.
        strategy.from_all_workers(self.model.distribute_strategy, 0)
        raise Stopped(
            f"Stopped by {self._received or 'another worker'} and saved after step "
            f"{self._position.step}. The same command goes on from there."
        )


class SaveState(keras.callbacks.Callback):
    """Saves a checkpoint after each epoch, and the encoder unless it was saved just before.

    A file is complete or not there. Whoever ends the training calls `save`.

    Args:
        checkpoints: Checkpoints.
        position: Position.
        encoder: keras.Model.
        encoder_path: pathlib.Path. Of the `.keras` file.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        position: Position,
        encoder: keras.Model,
        encoder_path: pathlib.Path,
    ):
        super().__init__()
        self._encoder = encoder
        self._checkpoints = checkpoints
        self._position = position
        self._encoder_path = encoder_path
        self._checkpoint_step = self._encoder_step = None  # that this process has saved
        self._next = 0.0  # time at which the encoder is due

    def on_epoch_end(self, epoch, logs=None):
        self._save_checkpoint()
        if time.monotonic() >= self._next:
            self._save_encoder()

    def save(self) -> None:
        """Writes what is not on the disk yet: the checkpoint, the encoder, or both."""
        if self._checkpoint_step != self._position.step:
            self._save_checkpoint()
        if self._encoder_step != self._position.step:
            self._save_encoder()

    def _save_checkpoint(self):
        self._checkpoints.save(self._position.step)
        self._checkpoint_step = self._position.step

    def _save_encoder(self):
        save_keras(self._encoder, self._encoder_path)
        self._encoder_step = self._position.step
        self._next = time.monotonic() + SECONDS_PER_ENCODER


def forgiving(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    """Returns the callback made to outlive a full disk: it warns, and tries again the next time."""

    def forgive(method):
        @functools.wraps(method)
        def attempt(*args, **kwargs):
            try:
                method(*args, **kwargs)
            except (OSError, tf.errors.OpError) as error:
                if not is_full_disk(error):
                    raise
                name = type(callback).__name__
                logging.warning("No space left on the disk: %s wrote nothing; going on.", name)

        return attempt

    for name in dir(callback):
        if name.startswith("on_"):
            setattr(callback, name, forgive(getattr(callback, name)))
    return callback
