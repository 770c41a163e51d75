"""Gradients of a batch that goes through the network in parts, with the negatives of the whole.

Shapes: B images of this replica, K parts, V = 2 views, M = B * V samples, E embedding.
"""

import typing

import tensorflow as tf

from sit_keras.config.checks import check_batch
from sit_keras.config.settings import RunConfig
from sit_keras.training import replicas

if typing.TYPE_CHECKING:
    from sit_keras.training.pretrainer import SiTPretrainer


def smallest_parts(batch: int, at_once: int, multiple: int = 1) -> int:
    """Returns into how many equal parts a batch is cut so that none exceeds `at_once` images.

    Args:
        batch, at_once: int.
        multiple: int. Each part has a multiple of so many images. A batch that no cut suits stays
            whole.
    """
    found = (
        parts
        for parts in range(1, batch + 1)
        if divides(batch, parts * multiple) and batch // parts <= at_once
    )
    return next(found, 1)


def divides(batch: int | None, parts: int) -> bool:
    """Whether a batch, whose size may be unknown (None), can be cut into so many parts."""
    return batch is not None and batch % parts == 0


def checked_batch(model: "SiTPretrainer", views: dict) -> int | None:
    """Returns how many images of a step this replica has, or None where that is unknown.

    Raises:
        ValueError: if they are the first ones, and the contrastive task has nothing to compare
            them with; a last batch may be that small.
    """
    batch = views["corrupted"].shape[0]
    # A graph with a size has it for every batch.
    if batch is not None and not (tf.executing_eagerly() and model.trackers["loss"].count > 0):
        compared = replicas.num_replicas() if model.negatives == "global" else 1
        check_batch(batch * compared, model.tasks)
    return batch


def check_parts(batch: int | None, parts: int, turned_every: int | None) -> None:
    """Raises ValueError unless a replica's batch can be cut into so many parts.

    Args:
        batch: int or None, where it is unknown.
        parts: int.
        turned_every: of `ViewConfig`. Each part and each replica then has a multiple of so many
            images, and so the same share of the turned views.
    """
    every = turned_every or 1
    if (parts > 1 or (every > 1 and replicas.num_replicas() > 1)) and not divides(
        batch, parts * every
    ):
        turned = f" of a multiple of views.turned_every={every} images" if every > 1 else ""
        raise ValueError(
            f"A replica's batch of {batch or 'unknown size'} does not divide into {parts} "
            f"micro-batches{turned}: choose a divisor of it, and make batches of one size "
            "(drop_remainder=True)."
        )


def check_shares(config: RunConfig, num_replicas: int, micro_batches: int) -> None:
    """Raises ValueError unless the batch of a run can be cut for so many replicas and parts."""
    every = config.views.turned_every or 1
    multiple = num_replicas * micro_batches * every
    if config.batch_size % multiple:
        turned = f", each of a multiple of views.turned_every={every} images" if every > 1 else ""
        raise ValueError(
            f"A batch of {config.batch_size} does not divide among {num_replicas} replicas with "
            f"{micro_batches} micro-batches each{turned}: use a multiple of {multiple}."
        )


def gradients_in_parts(model: "SiTPretrainer", views: dict) -> tuple:
    """Takes the gradients of a step part by part, at the cost of one more forward pass.

    The first pass keeps nothing but each sample's embedding, from which follows how the loss
    changes with it. The second pass carries that change back into the weights. (Gradient caching,
    Gao et al. 2021, arXiv:2101.06983.)

    Args:
        model: SiTPretrainer, compiled; its `micro_batches` is K.
        views: as for `PretextObjective.losses`.

    Returns:
        The weighted loss, the dicts of losses and accuracies, and the gradients in the order of
        `model.trainable_variables`, as one pass over the whole batch gives them.
    """
    parts = _split(views, model.micro_batches)
    noise = model.backbone.noise.state.value * 1  # a copy: both passes drop the same paths
    losses, accuracies, embeddings = _look(model, parts, training=True)
    with tf.GradientTape() as tape:
        tape.watch((losses, embeddings))
        means = _whole(model, losses, accuracies, embeddings)
        total, scaled = model.replica_loss(means[0], replicas.share(views["corrupted"]))
    weighting = [variable.value for variable in model.weighting.trainable_variables]
    loss_gradients, embedding_gradients, weighting_gradients = tape.gradient(
        scaled, (losses, embeddings, weighting), unconnected_gradients="zero"
    )

    model.backbone.noise.state.assign(noise)
    weights = [variable.value for variable in model.network.trainable_variables]
    gradients = loss_gradients, embedding_gradients
    network_gradients = _carry_back(model, parts, weights, *gradients, training=True)
    return total, *means, [*network_gradients, *weighting_gradients]


def losses_in_parts(model: "SiTPretrainer", views: dict, num_parts: int) -> tuple[dict, dict]:
    """Computes what `PretextObjective.losses` does in inference, part by part."""
    if num_parts == 1:
        return model.objective.losses(views)
    parts = _split(views, num_parts)
    return _whole(model, *_look(model, parts, training=False))


def task_gradient_norm(
    model: "SiTPretrainer", views: dict, factors: typing.Sequence, num_parts: int = 1
) -> tf.Tensor:
    """Measures the norm at the backbone of the gradient of some tasks, as they are weighted.

    Args:
        model: SiTPretrainer.
        views: a batch as for `PretextObjective.losses`.
        factors: (T,) float32. By which each task counts: 1 for a single task and 0 for the others
            gives the norm of that task, with one trace for all of them.
        num_parts: int. Parts that go through the network one after the other.

    Returns:
        The global norm of the gradient of the sum with respect to the backbone's weights, a scalar
        float32.
    """
    weights = [variable.value for variable in model.backbone.trainable_variables]
    effective = model.weighting.task_weights()

    def total(losses):
        pairs = zip(model.tasks, factors, strict=True)
        return sum(factor * effective[task] * losses[task] for task, factor in pairs)

    if num_parts == 1:
        with tf.GradientTape() as tape:
            loss = total(model.objective.losses(views)[0])
        return tf.linalg.global_norm(tape.gradient(loss, weights))
    parts = _split(views, num_parts)
    losses, accuracies, embeddings = _look(model, parts, training=False)
    with tf.GradientTape() as tape:
        tape.watch((losses, embeddings))
        loss = total(_whole(model, losses, accuracies, embeddings)[0])
    of_losses, of_embeddings = tape.gradient(
        loss, (losses, embeddings), unconnected_gradients="zero"
    )
    gradients = _carry_back(model, parts, weights, of_losses, of_embeddings, training=False)
    return tf.linalg.global_norm(gradients)


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
        outputs, losses, accuracies = model.objective.separate(part, training)
        return losses, accuracies, outputs["projection"]

    names = [task for task in model.tasks if task != "contrastive"]
    signature = (
        {name: tf.float32 for name in names},
        {f"{name}_accuracy": tf.float32 for name in names if name == "rotation"},
        tf.float32,
    )
    # One part after the other: a plain loop would let TensorFlow hold all of them at once.
    return tf.map_fn(look, parts, fn_output_signature=signature, parallel_iterations=1)


def _carry_back(model, parts, weights, loss_gradients, embedding_gradients, training):
    """Returns the gradients of weights, given those of what `_look` returns, part by part."""

    def teach(sums, part):
        views, loss_gradients, embedding_gradients = part
        with tf.GradientTape() as tape:
            outputs, losses, _ = model.objective.separate(views, training)
            results = losses, outputs["projection"]
        gradients = tape.gradient(
            results,
            weights,
            output_gradients=(loss_gradients, embedding_gradients),
            unconnected_gradients="zero",
        )
        return [old + new for old, new in zip(sums, gradients, strict=True)]

    return tf.foldl(
        teach,
        (parts, loss_gradients, embedding_gradients),
        initializer=[tf.zeros_like(weight) for weight in weights],
        parallel_iterations=1,
    )


def _whole(model, losses, accuracies, embeddings):
    """Returns the losses and accuracies of the whole batch from those of its parts."""
    means = tf.nest.map_structure(tf.reduce_mean, (losses, accuracies))
    return model.objective.with_contrast(*means, tf.reshape(embeddings, (-1, embeddings.shape[-1])))
