"""Checkpoints from which a run goes on as if it had never stopped."""

import os
import pathlib
import shutil

import keras
import tensorflow as tf
from absl import logging

from sit_keras.training import strategy

NUM_KEPT = 2


class Checkpoints:
    """The last few states of a training: its parts and the optimizer.

    Batches are pure functions of the step, so nothing of the data needs saving. Files are written
    aside and renamed.

    Args:
        model: a compiled model.
        folder: where the checkpoints lie.
        parts: by their names, models and variables to save: all that changes with a step but for
            the optimizer, the state of random generators (which Keras tracks in no checkpoint of
            its own) among them. Metrics begin anew with each epoch.
    """

    def __init__(self, model: keras.Model, folder: str | os.PathLike, parts: dict):
        model.optimizer.build(model.trainable_variables)
        # Not the optimizer's count, which leaves out the steps that a loss scale skips.
        self._step = tf.Variable(0, dtype=tf.int64)
        self._checkpoint = tf.train.Checkpoint(
            **parts, optimizer=model.optimizer, reached=self._step
        )
        self._writes = strategy.is_chief(model.distribute_strategy)
        self._folder = pathlib.Path(folder)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(self._folder), NUM_KEPT)

    def save(self, step: int) -> None:
        """Writes the present state, reached after `step` steps; one worker does it for all."""
        if not self._writes:
            return
        self._step.assign(step)
        try:
            self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError):
            self.sweep()
            raise

    def restore(self) -> int:
        """Loads the latest state that can be read; broken ones are named and passed over.

        Returns:
            The step it was taken after; 0 where there is no checkpoint.

        Raises:
            ValueError: if there are checkpoints and none can be read.
        """
        # The files themselves, not the manager's list, which may be lost or stale.
        files = self._folder.glob("ckpt-*.index")
        steps = sorted((int(file.stem.removeprefix("ckpt-")) for file in files), reverse=True)
        for step in steps:
            path = self._folder / f"ckpt-{step}"
            try:
                self._checkpoint.restore(str(path)).assert_existing_objects_matched()
            except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
                reason = str(error).splitlines()[0]
                logging.warning("The checkpoint %s cannot be read (%s).", path, reason)
            else:
                return int(self._step.numpy())
        if steps:
            raise ValueError(
                f"None of the {len(steps)} checkpoints in {self._folder} can be read. Put back a "
                "copy, or remove the folder to train from the beginning."
            )
        return 0

    def sweep(self) -> None:
        """Removes what a killed process or a full disk left half written, if one writes here."""
        for path in self._folder.glob("*temp*") if self._writes else ():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
