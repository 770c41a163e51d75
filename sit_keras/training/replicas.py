"""What a step needs to know of its replicas. Everything is the identity on one replica."""

import typing

import keras
import tensorflow as tf
from keras import ops


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
