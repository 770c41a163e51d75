"""How the task losses become one: learned uncertainty weights, or fixed ones."""

import math
import typing

import keras
from keras import ops

from sit_keras.config.checks import check_weighting
from sit_keras.config.settings import RunConfig

# The paper's equation divides an l1 term by alpha and a cross-entropy by alpha squared, because the
# first is a Laplace likelihood and the second a softmax one (Kendall et al. 2018).
EXPONENT = {"reconstruction": 1, "rotation": 2, "contrastive": 2}


@keras.saving.register_keras_serializable(package="sit_keras")
class UncertaintyWeighting(keras.layers.Layer):
    """The paper's total: L_rec / a1 + L_rot / a2^2 + L_con / a3^2 + log a1 + log a2 + log a3.

    Each task has one weight, log alpha, so that alpha stays positive; alpha starts at exp(1/2) as
    in the authors' code. The total can be negative: a small loss lets log alpha go below zero.

    A learned weight comes to 1 / L for an l1 loss L and to 1 / (2 L) for a cross-entropy. So a loss
    that cannot become small, as the contrastive one of many candidates cannot, keeps a small
    weight however well its task is learned. `min_weight` and `loss_floors` are against that.

    Args:
        tasks: the names of the losses, a subset of `EXPONENT`.
        min_weight: float. The smallest weight of a loss. It changes what the network is taught, and
            not how alpha is learned: below it, alpha follows its loss as if there were no smallest
            weight, and so the weight rises above it again as soon as the loss has become small.
        loss_floors: dict or None. By the name of a task, a value that its loss cannot fall below,
            such as `contrastive_floor`. It is subtracted from the loss in the total.

    Call arguments:
        losses: dict from task to a scalar float32.

    Returns:
        The total, a scalar float32.

    Raises:
        ValueError: for a negative weight, or the floor of another task.

    Reference:
        Kendall et al. 2018, Multi-Task Learning Using Uncertainty, arXiv:1705.07115.
    """

    def __init__(
        self,
        tasks: typing.Sequence[str],
        min_weight: float = 0.0,
        loss_floors: dict[str, float] | None = None,
        **kwargs,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.tasks = tuple(tasks)
        self.min_weight = min_weight
        self.loss_floors = dict(loss_floors or {})
        if min_weight < 0:
            raise ValueError(f"min_weight must be 0 or above, received {min_weight}.")
        unknown = sorted(set(self.loss_floors) - set(self.tasks))
        if unknown:
            raise ValueError(
                f"loss_floors names {', '.join(unknown)}, and the tasks are "
                f"{', '.join(self.tasks)}: leave out what is not a task."
            )
        self.log_alphas = {
            task: self.add_weight(
                name=f"log_alpha_{task}", shape=(), initializer=keras.initializers.Constant(0.5)
            )
            for task in self.tasks
        }
        self.built = True

    def call(self, losses):
        losses = {**losses, **{t: losses[t] - floor for t, floor in self.loss_floors.items()}}
        return sum(
            weight * losses[task] + self.log_alphas[task]
            for task, weight in self.task_weights().items()
        )

    def task_weights(self) -> dict:
        """The factor of each loss in the total: 1 / alpha or 1 / alpha^2, or `min_weight`."""
        weights = {
            t: ops.exp(-EXPONENT[t] * ops.convert_to_tensor(self.log_alphas[t])) for t in self.tasks
        }
        if not self.min_weight:
            return weights
        return {
            # What is missing is a constant to alpha, whose gradient stays that of its own weight.
            t: w + ops.stop_gradient(ops.maximum(self.min_weight - w, 0.0))
            for t, w in weights.items()
        }

    def alphas(self) -> dict:
        """The learned alpha of each task."""
        return {t: ops.exp(ops.convert_to_tensor(self.log_alphas[t])) for t in self.tasks}

    def get_config(self):
        return {
            "name": self.name,
            "tasks": self.tasks,
            "min_weight": self.min_weight,
            "loss_floors": self.loss_floors,
        }


@keras.saving.register_keras_serializable(package="sit_keras")
class FixedWeighting(keras.layers.Layer):
    """A weighted sum of the task losses with given weights (the ablation's plain sum: all 1).

    Args:
        tasks: the names of the losses.
        values: one weight per task, or None for 1 each.

    Call arguments:
        losses: dict from task to a scalar float32.

    Returns:
        The total, a scalar float32.
    """

    def __init__(self, tasks, values=None, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.tasks = tuple(tasks)
        self.values = tuple(values) if values is not None else (1.0,) * len(self.tasks)
        self.built = True

    def call(self, losses):
        return sum(weight * losses[task] for task, weight in self.task_weights().items())

    def task_weights(self) -> dict:
        """The factor of each loss in the total."""
        return {
            t: ops.convert_to_tensor(v, "float32")
            for t, v in zip(self.tasks, self.values, strict=True)
        }

    def alphas(self) -> dict:
        """Nothing is learned here."""
        return {}

    def get_config(self):
        return {"name": self.name, "tasks": self.tasks, "values": self.values}


def build_weighting(
    weighting: str | keras.layers.Layer,
    tasks: typing.Sequence[str],
    values: typing.Sequence[float] | None = None,
) -> keras.layers.Layer:
    """Returns the layer of a weighting.

    Args:
        weighting: `uncertainty`, or `fixed` with these values; or a layer such as
            `UncertaintyWeighting`, which is returned as it is.
        tasks: the names of the losses.
        values: one fixed weight per task, or None.

    Raises:
        ValueError: for an unknown name, values that do not fit, or a layer of other tasks.
    """
    if not isinstance(weighting, keras.layers.Layer):
        check_weighting(weighting, tuple(tasks), None if values is None else tuple(values))
        if weighting == "uncertainty":
            return UncertaintyWeighting(tasks, name="weighting")
        return FixedWeighting(tasks, values, name="weighting")
    if values is not None:
        raise ValueError(
            f"task_weights {tuple(values)} were given beside a layer, which has weights of its "
            "own: leave them out, or use weighting='fixed'."
        )
    own = tuple(getattr(weighting, "tasks", ()))
    if sorted(own) != sorted(tasks):
        raise ValueError(
            f"The weighting {weighting.name} is of the tasks {', '.join(own) or '(none)'}, and "
            f"the losses are those of {', '.join(tasks)}: build it with the same tasks."
        )
    return weighting


def run_weighting(config: RunConfig, num_replicas: int = 1) -> keras.layers.Layer:
    """Returns the layer that the settings of a run ask for.

    Args:
        config: RunConfig.
        num_replicas: int. Replicas that share a batch; local negatives are those of one of them.
    """
    if config.weighting == "fixed":
        return FixedWeighting(config.tasks, config.task_weights, name="weighting")
    floors = {}
    if config.subtract_loss_floor and "contrastive" in config.tasks:
        compared = config.batch_size // (num_replicas if config.negatives == "local" else 1)
        floors["contrastive"] = contrastive_floor(compared, config.temperature)
    return UncertaintyWeighting(config.tasks, config.min_task_weight, floors, name="weighting")


def contrastive_floor(num_images: int, temperature: float) -> float:
    """Returns the smallest value that the contrastive loss of a batch can have.

    It has it where both views of each image have the same embedding, and the embeddings of the
    images are as far from each other as B points on a sphere can be: with a cosine of -1 / (B - 1),
    the corners of a regular simplex. In fewer than B - 1 dimensions the loss stays above it.

    Args:
        num_images: int. B, the images that are compared with each other, with two views each.
        temperature: float.

    Reference:
        Graf et al. 2021, Dissecting Supervised Contrastive Learning, arXiv:2102.08817.
    """
    if num_images < 2:
        return 0.0
    margin = num_images / (num_images - 1)  # between the cosines of positives and negatives
    return math.log1p((2 * num_images - 2) * math.exp(-margin / temperature))
