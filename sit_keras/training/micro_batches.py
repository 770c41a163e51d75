"""Gradients of a batch that goes through the network in parts, with the negatives of the whole.

Shapes: B images of this replica, K parts, V = 2 views, M = B * V samples, E embedding.
"""

import typing

import tensorflow as tf

if typing.TYPE_CHECKING:
    from sit_keras.training.pretrainer import SiTPretrainer


def gradients_in_parts(model: "SiTPretrainer", views: dict) -> tuple:
    """Takes the gradients of a step part by part, at the cost of one more forward pass.

    The first pass keeps nothing but each sample's embedding, from which follows how the loss
    changes with it. The second pass carries that change back into the weights. (Gradient caching,
    Gao et al. 2021, arXiv:2101.06983.)

    Args:
        model: SiTPretrainer, compiled; its `micro_batches` is K.
        views: as for `SiTPretrainer.task_losses`.

    Returns:
        The weighted loss, the dicts of losses and accuracies, and the gradients in the order of
        `model.trainable_variables`, as one pass over the whole batch gives them.
    """
    parts = _split(views, model.micro_batches)
    noise = model.noise.state.value * 1  # a copy: both passes drop the same paths
    losses, accuracies, embeddings = _look(model, parts, training=True)
    with tf.GradientTape() as tape:
        tape.watch((losses, embeddings))
        means = _whole(model, losses, accuracies, embeddings)
        total, scaled = model.replica_loss(means[0])
    weighting = [variable.value for variable in model.weighting.trainable_variables]
    pulls, embedding_pulls, weighting_gradients = tape.gradient(
        scaled, (losses, embeddings, weighting), unconnected_gradients="zero"
    )

    model.noise.state.assign(noise)
    weights = [variable.value for variable in model.network.trainable_variables]

    def teach(sums, part):
        views, pulls, embedding_pulls = part
        with tf.GradientTape() as tape:
            outputs, losses, _ = model.separate_losses(views, training=True)
            results = losses, outputs["contrastive"]
        gradients = tape.gradient(results, weights, output_gradients=(pulls, embedding_pulls))
        return [old + new for old, new in zip(sums, gradients, strict=True)]

    network_gradients = tf.foldl(
        teach,
        (parts, pulls, embedding_pulls),
        initializer=[tf.zeros_like(weight) for weight in weights],
        parallel_iterations=1,
    )
    return total, *means, [*network_gradients, *weighting_gradients]


def losses_in_parts(model: "SiTPretrainer", views: dict) -> tuple[dict, dict]:
    """Computes what `SiTPretrainer.task_losses` does in inference, part by part."""
    parts = _split(views, model.micro_batches)
    return _whole(model, *_look(model, parts, training=False))


def _split(views, parts):
    """(B, ...) -> (K, B / K, ...)."""

    def split(x):
        shape = tf.shape(x)
        x_parts = tf.reshape(x, tf.concat([[parts, shape[0] // parts], shape[1:]], 0))
        return tf.ensure_shape(x_parts, (parts, None, *x.shape[1:]))

    return {name: split(x) for name, x in views.items()}


def _look(model, parts, training):
    """Returns each part's losses and accuracies (K,), and its embeddings (K, M / K, E)."""

    def look(part):
        outputs, losses, accuracies = model.separate_losses(part, training)
        return losses, accuracies, outputs["contrastive"]

    names = [task for task in model.tasks if task != "contrastive"]
    signature = (
        {name: tf.float32 for name in names},
        {f"{name}_accuracy": tf.float32 for name in names if name == "rotation"},
        tf.float32,
    )
    # One part after the other: a plain loop would let TensorFlow hold all of them at once.
    return tf.map_fn(look, parts, fn_output_signature=signature, parallel_iterations=1)


def _whole(model, losses, accuracies, embeddings):
    """Returns the losses and accuracies of the whole batch from those of its parts."""
    means = tf.nest.map_structure(tf.reduce_mean, (losses, accuracies))
    return model.with_contrast(*means, tf.reshape(embeddings, (-1, embeddings.shape[-1])))
