"""How gradients change the weights, and how losses are logged."""

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


def track(trackers: dict, values: dict) -> dict:
    """Averages the finite values; one that is not shows as NaN in the logs of this step."""
    finite = tf.math.is_finite(tf.stack([tf.cast(v, tf.float32) for v in values.values()]))
    (bad,) = replicas.reduce_sum([tf.cast(~finite, tf.float32)])  # on any replica
    logs = {}
    for (name, value), is_bad in zip(values.items(), tf.unstack(bad > 0), strict=True):
        tracker = trackers[name]
        tracker.update_state(tf.where(is_bad, 0.0, value), tf.where(is_bad, 0.0, 1.0))
        logs[name] = tf.where(is_bad, float("nan"), tracker.result())
    return logs
