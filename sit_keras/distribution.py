"""What a step needs to know of its replicas. Everything is the identity on one replica."""

import contextlib
import functools
import json
import os
import typing

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sit_keras import slurm
from sit_keras.config import check_choice
from sit_keras.execution import STRATEGIES

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
        raise ValueError("Another worker could not begin: its own output says why.")


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


def num_replicas() -> int:
    """Returns the number of replicas that share a global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def gather(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Concatenates a tensor of all replicas; gradients flow back to the replica they came from.

    Args:
        x: (b, ...), with the same b on each replica.

    Returns:
        The tensor of all replicas (b * R, ...), and the scalar int32 at which this replica's rows
        start in it.
    """
    if num_replicas() == 1:
        return x, tf.constant(0)
    context = tf.distribute.get_replica_context()
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * tf.shape(x)[0]
    return context.all_gather(x, axis=0), start


def reduce_sum(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each gradient over all replicas."""
    if num_replicas() == 1:
        return gradients
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def run_if(
    condition: tf.Tensor, function: typing.Callable[[list], None], tensors: list[tf.Tensor]
) -> None:
    """Calls `function(tensors)` on every replica, if the condition holds, which all share.

    An optimizer meets the other replicas in its update, and no replica may do so inside of a
    conditional of its own; so the decision is taken once for all.
    """

    def decide(strategy, condition, tensors):
        (shared, *_) = strategy.experimental_local_results(condition)
        call = strategy.extended.call_for_each_replica
        ops.cond(shared, lambda: call(function, args=(tensors,)), lambda: None)

    if num_replicas() == 1:
        ops.cond(condition, lambda: function(tensors), lambda: None)
    else:
        tf.distribute.get_replica_context().merge_call(decide, args=(condition, tensors))


class ReplicaSeed(keras.random.SeedGenerator):
    """A seed generator with other numbers on each replica, where Keras' own gives all the same."""

    def next(self, ordered=True):
        seed = super().next(ordered)
        if num_replicas() == 1:
            return seed
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        folded = tf.random.experimental.stateless_fold_in(
            tf.cast(seed, tf.int32), tf.cast(replica, tf.int32)
        )
        return tf.cast(folded, seed.dtype)
