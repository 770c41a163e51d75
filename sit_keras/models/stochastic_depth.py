"""Stochastic depth, and the generator of its random numbers."""

import typing

import keras
from keras import ops

Seed: typing.TypeAlias = int | keras.random.SeedGenerator | None


class BranchNoise(keras.random.SeedGenerator):
    """The seeds of a network's stochastic depth, which all of its layers share.

    `fold`, where it is set, changes each seed. A trainer sets it, because Keras' own generators
    give the same numbers on every replica.
    """

    fold: typing.Callable | None = None

    def next(self, ordered=True):
        seed = super().next(ordered)
        return seed if self.fold is None else self.fold(seed)


def seed_and_generator(seed: Seed):
    """Returns the seed to save in a config, and the generator to use."""
    if isinstance(seed, keras.random.SeedGenerator):
        return None, seed
    return seed, keras.random.SeedGenerator(seed)


@keras.saving.register_keras_serializable(package="sit_keras")
class DropPath(keras.layers.Layer):
    """Stochastic depth: drops a residual branch, per sample, and rescales the ones kept.

    Args:
        rate: float in [0, 1). Chance that a sample's branch is dropped.
        seed: int, None or a `keras.random.SeedGenerator`, which layers may share.
    """

    def __init__(self, rate: float, seed: Seed = None, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed, self.seed_generator = seed_and_generator(seed)

    def call(self, x, training=False):
        return self.drop(x, self.draw(x) if training else None)

    def draw(self, x):
        """Draws which samples of (B, ...) to keep: (B, 1, ...) bool, or None for all of them."""
        if self.rate == 0:
            return None
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        return keras.random.uniform(shape, seed=self.seed_generator) < 1.0 - self.rate

    def drop(self, x, kept):
        """Returns the samples that are `kept`, rescaled, and zeros for the others."""
        if kept is None:
            return x
        return x * (ops.cast(kept, x.dtype) / (1.0 - self.rate))  # one pass over x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
