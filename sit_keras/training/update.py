"""How gradients change the weights, and how losses are averaged."""

import typing

import tensorflow as tf

from sit_keras.training import replicas

if typing.TYPE_CHECKING:
    from sit_keras.training.pretrainer import SiTPretrainer


def update(model: "SiTPretrainer", gradients: list) -> tf.Tensor:
    """Sums gradients over replicas, clips their global norm, and updates the variables.

    Args:
        model: SiTPretrainer, compiled.
        gradients: in the order of `model.trainable_variables`.

    Returns:
        Whether it did, a scalar bool: gradients that are not finite leave everything as it was.
    """
    gradients = replicas.reduce_sum([tf.convert_to_tensor(g) for g in gradients])
    if model.clip_norm is not None:
        limit = model.optimizer.scale_loss(model.clip_norm)  # under fp16 the gradients are scaled
        gradients, _ = tf.clip_by_global_norm(gradients, limit)
    if replicas.num_replicas() > 1:  # over which the optimizer sums once more
        gradients = [gradient / replicas.num_replicas() for gradient in gradients]

    def apply(gradients):
        model.optimizer.apply(gradients, model.trainable_variables)

    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
    if model.scales_loss:
        apply(gradients)  # it leaves them out itself, and lowers its scale
    else:
        replicas.run_if(finite, apply, gradients)
    return finite


def average(model: "SiTPretrainer", share: replicas.Share, values: dict) -> dict:
    """Adds the means over a batch to those over an epoch, in which they count by their images.

    Args:
        model: SiTPretrainer, whose `trackers` they are added to.
        share: of the batch that this replica has.
        values: scalars by name, means over this replica's images.

    Returns:
        The means over the epoch by name.
    """
    return _add(model.trackers, values, _counts(model, share, values))


def average_finite(model: "SiTPretrainer", share: replicas.Share, values: dict) -> dict:
    """Does what `average` does with the finite values; others show as NaN in this step's logs."""
    counts = _counts(model, share, values)
    finite = tf.math.is_finite(tf.stack([tf.cast(v, tf.float32) for v in values.values()]))
    counted = tf.stack(list(counts.values())) > 0
    (bad,) = replicas.reduce_sum([tf.cast(counted & ~finite, tf.float32)])  # on any replica
    bad = dict(zip(values, tf.unstack(bad > 0), strict=True))
    counts = {name: tf.where(bad[name], 0.0, count) for name, count in counts.items()}
    means = _add(model.trackers, values, counts)
    return {name: tf.where(bad[name], float("nan"), mean) for name, mean in means.items()}


def _counts(model, share, values):
    """By how many images each value counts: none where the contrastive task compares with none."""
    rows = tf.cast(share.rows, tf.float32)
    compared = share.of if model.negatives == "global" else share.rows
    contrasted = tf.where(tf.convert_to_tensor(compared) > 1, rows, 0.0)
    of_pairs = {"contrastive", "contrastive_accuracy"}
    of_pairs |= {"loss"} if "contrastive" in model.tasks else set()  # the sum that has it
    return {name: contrasted if name in of_pairs else rows for name in values}


def _add(trackers, values, counts):
    for name, value in values.items():
        trackers[name].update_state(tf.where(counts[name] > 0, value, 0.0), counts[name])
    return {name: trackers[name].result() for name in values}
