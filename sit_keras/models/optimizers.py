"""AdamW with warm-up and cosine decay, as the paper trains."""

import typing

import keras
from keras import ops

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.settings import RunConfig

WARMUP_START = 1e-6
EPSILON = 1e-8


def build_optimizer(config: RunConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns AdamW with the run's schedule; biases, norms, tokens and positions do not decay.

    The learning rate is the base rate times batch_size / 512, or its square root. It rises linearly
    over the warm-up epochs, then falls along a cosine to the smallest one, changing at every step.
    The weight decay stays, or goes along a cosine to `weight_decay_end` over the whole run (Caron
    et al. 2021, DINO, arXiv:2104.14294).

    Args:
        config: RunConfig.
        steps_per_epoch: int.
    """
    decay = config.weight_decay
    if config.weight_decay_end is not None:
        decay = keras.optimizers.schedules.CosineDecay(
            decay, config.epochs * steps_per_epoch, alpha=config.weight_decay_end / decay
        )
    return SiTAdamW(cosine_schedule(config, steps_per_epoch), weight_decay=decay)


class _RateOncePerStep(keras.optimizers.Adam):
    """Adam that computes its rate and its bias correction once a step.

    Keras computes both, with the whole schedule, for each variable: most of the graph of a step.
    """

    def apply(self, grads, trainable_variables=None):
        if self.amsgrad:
            raise ValueError(f"{type(self).__name__} does not know amsgrad; received amsgrad=True.")
        step = ops.cast(self.iterations, "float32") + 1.0
        self._rate = ops.cast(self.learning_rate, "float32")
        correction = ops.sqrt(1.0 - ops.power(self.beta_2, step))
        self._corrected_rate = self._rate * correction / (1.0 - ops.power(self.beta_1, step))
        super().apply(grads, trainable_variables)

    def _apply_weight_decay(self, variables):
        pass  # `_step` does it

    def _step(self, gradient, variable, scale: float, weight_decay):
        """Updates one variable, with its own factor of the rate and its own decoupled decay.

        The decay is a number, a scalar tensor, or None.
        """
        index, dtype = self._get_variable_index(variable), variable.dtype
        mean, square = self._momentums[index], self._velocities[index]
        gradient, corrected_rate = ops.cast(gradient, dtype), ops.cast(self._corrected_rate, dtype)
        self.assign_add(mean, (gradient - mean) * (1.0 - self.beta_1))
        self.assign_add(square, (gradient * gradient - square) * (1.0 - self.beta_2))
        change = mean * corrected_rate / (ops.sqrt(square) + self.epsilon)
        if weight_decay is not None:
            change = change + variable * ops.cast(self._rate * weight_decay, dtype)
        self.assign_sub(variable, change if scale == 1.0 else change * scale)


@keras.saving.register_keras_serializable(package="sit_keras")
class SiTAdamW(_RateOncePerStep, keras.optimizers.AdamW):
    """AdamW in which biases, norms, tokens, positions and alphas do not decay.

    Args:
        learning_rate: float or a schedule.
        weight_decay: float or a schedule.
        epsilon: float.
        **kwargs: as for `keras.optimizers.AdamW`, but for `amsgrad`.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 5e-4,
        weight_decay: float | keras.optimizers.schedules.LearningRateSchedule = 0.05,
        epsilon: float = EPSILON,
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, epsilon=epsilon, **kwargs)

    def build(self, variables):
        # Keras saves no list of what is left out, so that it is made whenever this is built; what
        # `exclude_from_weight_decay` was given is left out, too.
        self._decays = tuple(decays(variable) for variable in variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        decay = self.weight_decay
        self._decay = decay(self.iterations) if callable(decay) else decay or None
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        decays_here = self._decays[self._get_variable_index(variable)]
        decay = self._decay if decays_here and self._use_weight_decay(variable) else None
        self._step(gradient, variable, 1.0, decay)

    def get_config(self) -> dict[str, typing.Any]:
        config = super().get_config()
        if callable(self.weight_decay):
            config["weight_decay"] = keras.optimizers.schedules.serialize(self.weight_decay)
        return config

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "SiTAdamW":
        decay = config.get("weight_decay")
        if isinstance(decay, dict):
            decay = keras.optimizers.schedules.deserialize(decay, custom_objects)
            config = {**config, "weight_decay": decay}
        return super().from_config(config, custom_objects)


def cosine_schedule(
    config: RunConfig | FinetuneConfig, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of each step, as `build_optimizer` describes."""
    peak = config.peak_learning_rate
    warmup_steps = config.effective_warmup_epochs * steps_per_epoch
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=WARMUP_START if warmup_steps else peak,
        decay_steps=config.epochs * steps_per_epoch - warmup_steps,
        alpha=min(1.0, config.min_learning_rate / peak),
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay applies: not to biases, norms, tokens, positions and alphas."""
    exempt = ("rotation_token", "contrastive_token", "positions")
    return len(variable.shape) >= 2 and variable.name not in exempt


class PlannedAdamW(_RateOncePerStep):
    """AdamW in which every variable has a learning rate and a weight decay of its own.

    Args:
        schedule: a learning rate schedule.
        scales: for each variable that it will be built with, a factor of the learning rate.
        weight_decays: for each of them, the decoupled decay; it is scaled with the rate.
        **kwargs: as for `keras.optimizers.Adam`.
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        scales: typing.Sequence[float],
        weight_decays: typing.Sequence[float],
        **kwargs,
    ):
        super().__init__(schedule, epsilon=EPSILON, **kwargs)
        self._scales = tuple(scales)
        self._weight_decays = tuple(weight_decays)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        self._step(gradient, variable, self._scales[index], self._weight_decays[index] or None)
