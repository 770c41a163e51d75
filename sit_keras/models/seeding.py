"""Reproducible first weights without a change of the caller's random state."""

import contextlib
import random
import typing


@contextlib.contextmanager
def seeded(seed: int) -> typing.Iterator[None]:
    """Makes the weights of the networks that are built inside depend on the seed alone.

    They are those that follow `keras.utils.set_random_seed(seed)`. Unlike that function, this one
    leaves the random numbers of Python, NumPy, Keras and TensorFlow after it as if nothing had
    happened: Keras seeds its initializers and its `SeedGenerator`s from Python's `random` alone,
    whose state is put back at the end.

    Numbers that are drawn inside, and not by the initializer of a weight, do not follow the seed:
    pass a seed to whatever draws them. Two threads cannot build reproducible networks at once.

    Args:
        seed: int.

    Example:
        ```
        with seeded(0):
            backbone = SiTBackbone()
        ```
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
