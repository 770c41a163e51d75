"""The rate of large matrix products, the most that a library reaches here.

Every other figure with a count of operations is also given as a share of it.
"""

import time

from benchmarks.turns import Contender

SIZE, PRODUCTS = 2048, 4


def contenders(quick: bool) -> list[Contender]:
    found = []
    for precision in ("float32", "bfloat16"):
        for library, package in (("tensorflow", "tensorflow"), ("torch", "torch"), ("jax", "jax")):
            found.append(
                Contender(
                    case=precision,
                    name=f"{library} {precision}",
                    target=f"{__name__}:{library}",
                    arguments={"precision": precision},
                    packages=(package,),
                )
            )
    return found


def tensorflow(precision: str):
    import tensorflow as tf

    a = tf.cast(tf.random.stateless_normal((SIZE, SIZE), (0, 1)), precision)
    product = tf.function(lambda a: tf.matmul(a, a))
    return _timed(lambda: product(a).numpy())


def torch(precision: str):
    import torch

    a = torch.randn(SIZE, SIZE).to(getattr(torch, precision))
    return _timed(lambda: a @ a)


def jax(precision: str):
    import jax

    a = jax.random.normal(jax.random.key(0), (SIZE, SIZE)).astype(precision)
    product = jax.jit(lambda a: a @ a)
    return _timed(lambda: product(a).block_until_ready())


def _timed(product):
    def measure():
        begin = time.perf_counter()
        for _ in range(PRODUCTS):
            product()
        seconds = (time.perf_counter() - begin) / PRODUCTS
        return {"ms": 1e3 * seconds, "gflop": 2 * SIZE**3 / 1e9}

    for _ in range(2):
        measure()
    return measure
