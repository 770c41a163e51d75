"""Which devices share a batch, and how several workers act together."""

import contextlib
import functools
import json
import os
import typing
import zlib

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import check_choice
from sit_keras.config.execution import STRATEGIES
from sit_keras.training import slurm

_TF_CONFIG_EXAMPLE = (
    """TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]}, """
    """"task": {"type": "worker", "index": 0}}\'"""
)


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy that shares each batch among devices.

    Args:
        name: str. `one` device; `mirrored` over all GPUs of this machine, or all logical CPUs if
            none; `auto` takes the second where there are several GPUs; `multiworker` over those
            of the machines that TF_CONFIG names, or the tasks of a SLURM job step. It waits for
            them, and it must come before anything else that TensorFlow does.

    Raises:
        ValueError: for another name, or `multiworker` without a word of the others.
    """
    check_choice("strategy", name, STRATEGIES)
    if name == "multiworker":
        return _multi_worker_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "one" or (name == "auto" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    devices = gpus or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices))


# One for all runs of a process: the collectives of a second one would get into those of the first.
_mirrored = functools.cache(lambda devices: tf.distribute.MirroredStrategy(list(devices)))


def _multi_worker_strategy():
    if "TF_CONFIG" not in os.environ:
        if "SLURM_PROCID" not in os.environ:
            raise ValueError(
                "strategy=multiworker needs to know the other machines: start the command with "
                f"srun, or set TF_CONFIG on each, such as {_TF_CONFIG_EXAMPLE}."
            )
        os.environ["TF_CONFIG"] = json.dumps(slurm.tf_config(os.environ))
    if not {"cluster", "task"} <= set(json.loads(os.environ["TF_CONFIG"])):
        raise ValueError(
            f"TF_CONFIG is {os.environ['TF_CONFIG']}, expected a `cluster` and a `task`, such as "
            f"{_TF_CONFIG_EXAMPLE}."
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy spans several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files and speaks."""
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def from_all_workers(strategy: tf.distribute.Strategy, value: int) -> np.ndarray:
    """Returns the numbers that all workers passed; all of them must call it together."""
    if not is_multi_worker(strategy):
        return np.array([value])
    return _exchange(strategy)(tf.constant([value], tf.int64)).numpy()


def from_chief(strategy: tf.distribute.Strategy, value: float) -> float:
    """Returns the chief's number on every worker; all of them must call it together."""
    bits = np.array([value], np.float64).view(np.int64)
    return float(from_all_workers(strategy, int(bits[0]))[:1].view(np.float64)[0])


@functools.lru_cache(maxsize=1)  # of the strategy: traced once, it costs a step little
def _exchange(strategy):
    def gather(value):
        on_device = tf.identity(value)
        return tf.distribute.get_replica_context().all_gather(on_device, axis=0)

    @tf.function
    def exchange(value):
        return strategy.experimental_local_results(strategy.run(gather, args=(value,)))[0]

    return exchange


@contextlib.contextmanager
def all_or_none(strategy: tf.distribute.Strategy) -> typing.Iterator[None]:
    """Lets all workers pass, or stops those that could by ValueError if another failed."""
    failed = 1
    try:
        yield
        failed = 0
    finally:
        others = from_all_workers(strategy, failed).sum() - failed
    if others:
        raise ValueError("Another worker could not begin: its own output has the reason.")


def agree(strategy: tf.distribute.Strategy, what: str, value: typing.Any) -> None:
    """Raises ValueError unless all workers have the same value; waits for them all."""
    number = zlib.crc32(json.dumps(value).encode())
    if len(set(from_all_workers(strategy, number))) > 1:
        raise ValueError(
            f"The workers differ in their {what} (here: {value}). All need the same command, the "
            "same images, and a --run_dir on a disk that they share."
        )


class WorkerLost(Exception):
    """Another worker of this run is gone."""


@contextlib.contextmanager
def worker_loss_explained() -> typing.Iterator[None]:
    """Turns the errors of a collective that a worker no longer attends into one sentence."""
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
    ) as error:
        raise WorkerLost(
            "Another worker is gone (its own output may say why), so this one stops too. Nothing "
            "saved is lost: the same command on every machine goes on from the last saved epoch."
        ) from error
