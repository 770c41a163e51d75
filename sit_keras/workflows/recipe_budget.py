"""Equal budgets for different settings: what a step costs, and a schedule that fits."""

import math
import os
import pathlib
import tempfile
import time

import keras

from sit_keras.config.files import read_json
from sit_keras.config.serialization import changed
from sit_keras.config.settings import RunConfig
from sit_keras.runs.data import RunData
from sit_keras.runs.files import write_json
from sit_keras.workflows.pretrain import pretrain

# The schedule is that of so many epochs, or of more where the images of these are too few.
EPOCHS = 20
# Steps at the beginning, in which functions are traced and compiled, and those that are measured.
COMPILING, MEASURED = 5, 20
CLOCK = "step_seconds.json"  # in a run folder


class StepClock(keras.callbacks.Callback):
    """Measures the processor time of steps, of all threads of the process.

    What comes between the steps, such as validation and saving, is left out, and so are the first
    steps after each start, which compile. On a busy machine the time does not depend on the others
    as the time of day does.

    Args:
        path: pathlib.Path of a JSON file that keeps the time of a run that is continued, or None.
    """

    def __init__(self, path: pathlib.Path | None = None):
        super().__init__()
        self._path = path
        self._to_skip = COMPILING
        values = {}
        if path is not None and path.exists():
            values = read_json(path, "the time of the steps of a run")
        self.seconds, self.steps = values.get("seconds", 0.0), values.get("steps", 0)

    @property
    def seconds_per_step(self) -> float | None:
        """CPU-seconds of a step, None where no step was measured."""
        return self.seconds / self.steps if self.steps else None

    def on_train_batch_begin(self, batch, logs=None):
        self._begin = time.process_time()

    def on_train_batch_end(self, batch, logs=None):
        if self._to_skip:
            self._to_skip -= 1
            return
        self.seconds += time.process_time() - self._begin
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        if self._path is not None:
            write_json(self._path, {"seconds": self.seconds, "steps": self.steps})


def measure_step(
    config: RunConfig, data_dir: str | os.PathLike | None = None, download: bool = False
) -> float:
    """Returns the CPU-seconds of a step of a run, measured on a short one.

    Args:
        config: RunConfig.
        data_dir, download: as for `sit_keras.data.load_source`.
    """
    full = _whole_epoch(config, data_dir, download)
    steps = COMPILING + MEASURED
    short = {"epochs": math.ceil(steps / full), "steps_per_epoch": min(full, steps)}
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            changed(config, short), folder, data_dir, download, callbacks=[clock], compare=False
        )
    return clock.seconds / clock.steps


def scheduled(
    config: RunConfig, steps: int, data_dir: str | os.PathLike | None = None, download: bool = False
) -> RunConfig:
    """Returns a run of so many steps, or a few less, with its whole schedule within them.

    Args:
        config: RunConfig, whose warm-up keeps its share of the epochs, one of them at least.
        steps: int.
        data_dir, download: as for `sit_keras.data.load_source`.

    Raises:
        ValueError: if there is no step.
    """
    if steps < 1:
        raise ValueError("The budget does not hold a single step: give a larger one.")
    full = _whole_epoch(config, data_dir, download)
    epochs = max(min(EPOCHS, steps), math.ceil(steps / full))
    warmup = max(1, round(config.warmup_epochs * epochs / config.epochs))
    return changed(
        config,
        {
            "epochs": epochs,
            "steps_per_epoch": steps // epochs,
            "warmup_epochs": warmup if config.warmup_epochs else 0,
            "sheet_every": epochs,
            "measure_every": epochs,
        },
    )


def _whole_epoch(config, data_dir, download) -> int:
    """Returns the steps in which every image is seen once."""
    return RunData.load(
        changed(config, {"steps_per_epoch": None}), data_dir, download
    ).steps_per_epoch
