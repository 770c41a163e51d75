"""What a step needs to know of its replicas. Everything is the identity on one replica."""

import typing

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
    return context.all_gather(x, axis=0), replica_id() * tf.shape(x)[0]


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


def replica_id() -> tf.Tensor | int:
    """Returns this replica's number among all of them, a scalar int32."""
    if num_replicas() == 1:
        return 0
    context = tf.distribute.get_replica_context()
    return tf.cast(context.replica_id_in_sync_group, tf.int32)


def fold_in_replica(seed: tf.Tensor) -> tf.Tensor:
    """Returns another seed on each replica, where Keras' generators give all of them the same."""
    if num_replicas() == 1:
        return seed
    folded = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int32), replica_id())
    return tf.cast(folded, seed.dtype)
