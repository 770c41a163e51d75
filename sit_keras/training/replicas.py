"""What a step needs to know of its replicas. Everything is the identity on one replica."""

import typing

import tensorflow as tf
from keras import ops


def num_replicas() -> int:
    """Returns the number of replicas that share a global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


class Share(typing.NamedTuple):
    """This replica's share of a global batch: its rows, the rows of all, and where its own start.

    The rows of a last batch may be shared unequally, and a replica may have none of them.
    """

    rows: tf.Tensor
    of: tf.Tensor
    first: tf.Tensor

    def divide(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns what the mean over this replica's rows adds to the mean over those of all."""
        if self.of is self.rows:
            return mean
        return mean / (tf.cast(self.of, mean.dtype) / tf.cast(self.rows, mean.dtype))

    def known(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns the mean over this replica's rows, or 0 if it has none."""
        return mean if self.of is self.rows else tf.where(tf.cast(self.rows, bool), mean, 0.0)


def share(x: tf.Tensor) -> Share:
    """Returns the share of the batch that the rows of a tensor (b, ...) are."""
    rows = tf.shape(x)[0]
    if num_replicas() == 1:
        return Share(rows, rows, 0 * rows)
    if x.shape[0] and not tf.executing_eagerly():  # all replicas run this graph
        return Share(rows, rows * num_replicas(), replica_id() * rows)
    context = tf.distribute.get_replica_context()
    # As floats, which all devices exchange; whole numbers are exact below 2^24.
    sizes = context.all_gather(tf.cast(rows, tf.float32)[None], axis=0)
    sizes = tf.cast(sizes, tf.int32)
    return Share(rows, tf.reduce_sum(sizes), tf.cumsum(sizes, exclusive=True)[replica_id()])


def gather(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Concatenates a tensor of all replicas; gradients flow back to the replica they came from.

    Args:
        x: (b, ...), where b may differ between replicas.

    Returns:
        The tensor of all replicas, one after the other, and the scalar int32 at which this
        replica's rows start in it.
    """
    if num_replicas() == 1:
        return x, tf.constant(0)
    context = tf.distribute.get_replica_context()
    return context.all_gather(x, axis=0), share(x).first


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
