"""How the task losses become one: learned uncertainty weights, or fixed ones."""

import keras
from keras import ops

# The paper's equation divides an l1 term by alpha and a cross-entropy by alpha squared, because the
# first is a Laplace likelihood and the second a softmax one (Kendall et al. 2018).
EXPONENT = {"reconstruction": 1, "rotation": 2, "contrastive": 2}


@keras.saving.register_keras_serializable(package="sit_keras")
class UncertaintyWeighting(keras.layers.Layer):
    """The paper's total: L_rec / a1 + L_rot / a2^2 + L_con / a3^2 + log a1 + log a2 + log a3.

    Each task has one weight, log alpha, so that alpha stays positive; alpha starts at exp(1/2) as
    in the authors' code. The total can be negative: a small loss lets log alpha go below zero.

    Args:
        tasks: the names of the losses, a subset of `EXPONENT`.

    Call arguments:
        losses: dict from task to a scalar float32.

    Returns:
        The total, a scalar float32.
    """

    def __init__(self, tasks, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.tasks = tuple(tasks)
        self.log_alphas = {
            task: self.add_weight(
                name=f"log_alpha_{task}", shape=(), initializer=keras.initializers.Constant(0.5)
            )
            for task in self.tasks
        }
        self.built = True

    def call(self, losses):
        return sum(
            weight * losses[task] + self.log_alphas[task]
            for task, weight in self.task_weights().items()
        )

    def task_weights(self) -> dict:
        """The factor of each loss in the total: 1 / alpha or 1 / alpha^2."""
        return {
            t: ops.exp(-EXPONENT[t] * ops.convert_to_tensor(self.log_alphas[t])) for t in self.tasks
        }

    def alphas(self) -> dict:
        """The learned alpha of each task."""
        return {t: ops.exp(ops.convert_to_tensor(self.log_alphas[t])) for t in self.tasks}

    def get_config(self):
        return {"name": self.name, "tasks": self.tasks}


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


def build_weighting(name: str, tasks, values=None) -> keras.layers.Layer:
    """Returns the layer of a weighting: `uncertainty`, or `fixed` with these values."""
    if name == "uncertainty":
        return UncertaintyWeighting(tasks, name="weighting")
    return FixedWeighting(tasks, values, name="weighting")
