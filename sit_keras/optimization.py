"""AdamW with warm-up and cosine decay, as the paper trains."""

import keras

from sit_keras.config import RunConfig
from sit_keras.pretrain import SiTPretrainer

WARMUP_START = 1e-6


def build_optimizer(
    model: SiTPretrainer, config: RunConfig, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Returns AdamW with the run's schedule; biases, norms, tokens and positions do not decay.

    The learning rate is the base rate times batch_size / 512. It rises linearly over the warm-up
    epochs, then falls along a cosine to the smallest one, changing at every step.

    Args:
        model: SiTPretrainer.
        config: RunConfig.
        steps_per_epoch: int.
    """
    peak = config.peak_learning_rate
    warmup_steps = config.warmup_epochs * steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=WARMUP_START if warmup_steps else peak,
        decay_steps=config.epochs * steps_per_epoch - warmup_steps,
        alpha=min(1.0, config.min_learning_rate / peak),
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, epsilon=1e-8)
    optimizer.exclude_from_weight_decay(var_list=model.no_decay_variables())
    return optimizer
