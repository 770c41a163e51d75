"""How long a step of a run takes on this machine, measured on some real steps of it."""

import contextlib
import io
import os
import sys
import tempfile
import time

import keras
import tensorflow as tf
from absl import logging

from sit_keras.config.execution import Execution
from sit_keras.config.plan import StepTime
from sit_keras.config.serialization import changed
from sit_keras.config.settings import RunConfig
from sit_keras.training.guards import Stopped
from sit_keras.workflows.pretrain import pretrain

# In the first of these epochs everything is compiled; the others are measured.
EPOCHS, STEPS = 3, 4


class _Clock(keras.callbacks.Callback):
    """Notes the time at which each step begins and ends, by epoch, and stops after `EPOCHS`."""

    def __init__(self):
        super().__init__()
        self.epochs: list[list[tuple[float, float]]] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append([])

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = len(self.epochs) == EPOCHS

    def on_train_batch_begin(self, batch, logs=None):
        self._begin = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self.epochs[-1].append((self._begin, time.monotonic()))


def measure_steps(
    config: RunConfig,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    execution: Execution | None = None,
) -> StepTime:
    """Takes some steps of a run, with all that a run does around them, and returns the times.

    Args:
        config: RunConfig.
        data_dir, download: as for `sit_keras.data.load_source`.
        execution: Execution, or None for its defaults.

    Raises:
        ValueError: as `sit_keras.workflows.pretrain.pretrain`.
    """
    steps = min(STEPS, config.steps_per_epoch or STEPS)
    print("Measuring some steps of this network ...", flush=True)
    # The epoch behind the last one is for pictures and measurements, and is never reached.
    last = {name: EPOCHS + 1 for name in ("epochs", "sheet_every", "measure_every")}
    short = changed(config, {**last, "warmup_epochs": 1, "steps_per_epoch": steps})
    clock, begin = _Clock(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, _quiet(), _stopped_in_words():
        pretrain(short, folder, data_dir, download, execution, callbacks=[clock], compare=False)
    first, *measured = clock.epochs
    # From the beginning of a step to that of the next, so that the wait for images counts.
    taken = sum(steps[-1][1] - steps[0][0] for steps in measured)
    count = sum(map(len, measured))
    return StepTime(
        step=taken / count,
        between=measured[1][0][0] - measured[0][-1][1],
        start=first[-1][1] - begin,
        steps=count,
        memory=_peak_memory(),
    )


@contextlib.contextmanager
def _stopped_in_words():
    """A run that is stopped here has not begun, whatever its guards say."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped("Stopped while it measured steps; nothing was trained yet.") from stopped


@contextlib.contextmanager
def _quiet():
    """What a run says is said once, when it begins."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(before)


def _peak_memory() -> int:
    """Bytes that were used at the most: on the first GPU, or else by this process."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_memory_info(gpus[0].name.removeprefix("/device:"))["peak"]
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
