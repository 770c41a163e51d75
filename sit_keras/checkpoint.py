"""Checkpoints from which a run goes on as if it had never stopped."""

import os

import tensorflow as tf

from sit_keras.pretrain import SiTPretrainer


class Checkpoints:
    """The last few states of a training: weights, optimizer, and the generators of drop-path noise.

    Batches are pure functions of the step, so nothing of the data needs saving. Files are written
    aside and renamed.

    Args:
        model: SiTPretrainer, compiled.
        folder: where the checkpoints lie.
    """

    def __init__(self, model: SiTPretrainer, folder: str | os.PathLike):
        model.optimizer.build(model.trainable_variables)
        self._model = model
        # Keras tracks these in no checkpoint of its own.
        generators = [v.value for v in model.variables if "seed_generator" in v.path]
        self._checkpoint = tf.train.Checkpoint(
            model=model, optimizer=model.optimizer, generators=generators
        )
        self._manager = tf.train.CheckpointManager(self._checkpoint, os.fspath(folder), 2)

    @property
    def step(self) -> int:
        """The optimizer steps taken so far."""
        return int(self._model.optimizer.iterations.numpy())

    def save(self) -> None:
        """Writes the present state."""
        self._manager.save(checkpoint_number=self.step)

    def restore(self) -> int:
        """Loads the latest state, if there is one.

        Returns:
            The step it was taken at; 0 where there is none.
        """
        latest = self._manager.latest_checkpoint
        if latest:
            self._checkpoint.restore(latest).assert_existing_objects_matched()
        return self.step
