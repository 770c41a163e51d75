"""Two runs of the same settings on different devices; run in a process of its own.

Usage: python device_runs.py FOLDER. `one` stays on one device. `changing` begins on one device in
32 micro-batches, is stopped after an epoch, and goes on with two replicas of two micro-batches
and remat.
"""

import dataclasses
import pathlib
import sys

import keras
import tensorflow as tf
from run_case import TINY

from sit_keras.config.execution import Execution
from sit_keras.training.guards import Stopped
from sit_keras.workflows.pretrain import pretrain

# 20 held-out images: fewer than a batch.
CONFIG = dataclasses.replace(
    TINY, model=dataclasses.replace(TINY.model, drop_path_rate=0.0), epochs=2, holdout=0.014
)


class StopAfterAnEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise Stopped


def main(folder):
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    pretrain(CONFIG, folder / "one", execution=Execution(strategy="one"))
    try:
        execution = Execution(strategy="one", micro_batches=32)
        pretrain(CONFIG, folder / "changing", execution=execution, callbacks=[StopAfterAnEpoch()])
    except Stopped:
        pass
    execution = Execution(strategy="mirrored", micro_batches=2, remat=True)
    pretrain(CONFIG, folder / "changing", execution=execution)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
