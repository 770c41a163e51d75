"""Checkpoints from which a run goes on as if it had never stopped."""

import os
import pathlib
import zipfile

import keras
import numpy as np
from absl import logging

from sit_keras.config.files import remove_unfinished, written_whole
from sit_keras.training import strategy

NUM_KEPT = 2
_REACHED = "reached"  # the step that a checkpoint was taken after


class Checkpoints:
    """The last few states of a training: its parts and the optimizer.

    Batches are pure functions of the step, so nothing of the data needs saving. A checkpoint is one
    file, `ckpt-STEP.npz`, in which each variable is an array with a checksum. It is complete or not
    there, and it does not depend on the number of replicas.

    Args:
        model: a compiled model.
        folder: where the checkpoints lie.
        parts: by their names, models and Keras variables to save: all that changes with a step but
            for the optimizer. Metrics begin anew with each epoch.
    """

    def __init__(self, model: keras.Model, folder: str | os.PathLike, parts: dict):
        model.optimizer.build(model.trainable_variables)
        self._variables = {
            # Numbered, since Keras gives an optimizer another path in each process.
            f"{part}/{number:04d}/{variable.name}": variable
            for part, owner in {**parts, "optimizer": model.optimizer}.items()
            for number, variable in enumerate(getattr(owner, "variables", [owner]))
        }
        self._writes = strategy.is_chief(model.distribute_strategy)
        self._folder = pathlib.Path(folder)

    def save(self, step: int) -> None:
        """Writes the present state, reached after `step` steps; one worker does it for all."""
        if not self._writes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self._file(step)) as aside, zipfile.ZipFile(aside, "w") as archive:
            _write(archive, _REACHED, np.int64(step))
            for name, variable in self._variables.items():  # one after the other, to save memory
                _write(archive, name, keras.ops.convert_to_numpy(variable))
        earlier = [other for other in self._steps() if other < step]
        for other in self._steps():
            # Later ones are those that could not be read.
            if other != step and other not in earlier[: NUM_KEPT - 1]:
                self._file(other).unlink()

    def restore(self) -> int:
        """Loads the latest state that can be read; broken ones are named and passed over.

        Returns:
            The step it was taken after; 0 where there is no checkpoint.

        Raises:
            ValueError: if there are checkpoints and none can be read.
        """
        if self._writes:
            remove_unfinished(self._folder)
        steps = self._steps()
        for step in steps:
            try:
                self._load(step)
            except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile,
                    MemoryError) as error:  # fmt: skip
                reason = (str(error) or type(error).__name__).splitlines()[0]
                logging.warning("The checkpoint %s cannot be read (%s).", self._file(step), reason)
            else:
                return step
        if steps:
            raise ValueError(
                f"None of the {len(steps)} checkpoints in {self._folder} can be read. Put back a "
                "copy, or remove the folder to train from the beginning."
            )
        self._refuse_old_ones()
        return 0

    def _file(self, step):
        return self._folder / f"ckpt-{step}.npz"

    def _steps(self):
        """Returns the steps of all checkpoints, the latest first."""
        names = (path.stem.removeprefix("ckpt-") for path in self._folder.glob("ckpt-*.npz"))
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _load(self, step):
        with np.load(self._file(step), allow_pickle=False) as arrays:
            if set(arrays.files) != {_REACHED, *self._variables}:
                raise ValueError("it holds the variables of another network or optimizer")
            if arrays[_REACHED] != step:
                raise ValueError(f"it was taken after step {arrays[_REACHED]}")
            for name, variable in self._variables.items():
                value = arrays[name]  # whose checksum is compared as it is read
                if (value.shape, value.dtype) != (tuple(variable.shape), variable.dtype):
                    raise ValueError(f"{name} is {value.dtype} of the shape {value.shape}")
                variable.assign(value)

    def _refuse_old_ones(self):
        old = sorted(path.name for path in self._folder.glob("ckpt-*.index"))
        if old:
            raise ValueError(
                f"{self._folder} holds checkpoints in TensorFlow's format ({', '.join(old)}). An "
                "earlier version of SiT-Keras wrote them (config.json of a run names it): finish "
                "the training with that version, or begin anew with another folder."
            )


def _write(archive, name, array):
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
