"""What a step needs to know of its replicas. Everything is the identity on one replica."""

import tensorflow as tf


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
