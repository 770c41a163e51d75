"""How fast the steps are, and what share of the device's matrix products that is."""

import time

import jax
import jax.numpy as jnp
from jax_step import Pretraining

from sit_keras.augment.pretext import NUM_VIEWS
from sit_keras.config.settings import RunConfig

_CALLS = 5


def measure(pretraining: Pretraining, steps_per_call: int) -> None:
    """Prints how long the first call and a step take, and how many views that is a second."""
    config, begin = pretraining.config, time.perf_counter()
    call, state = pretraining.compiled(steps_per_call), pretraining.state()
    state, _ = jax.block_until_ready(call(state, 0))
    print(f"Compilation and first call: {time.perf_counter() - begin:.1f} s", flush=True)
    begin = time.perf_counter()
    for _ in range(_CALLS):
        state, _ = call(state, 0)
    jax.block_until_ready(state)
    seconds = (time.perf_counter() - begin) / (_CALLS * steps_per_call)
    print(
        f"{config.preset}, batch {config.batch_size}, {config.precision}: "
        f"{seconds * 1e3:.2f} ms a step, {NUM_VIEWS * config.batch_size / seconds:,.0f} views/s"
    )
    print(share(config, NUM_VIEWS * config.batch_size / seconds, matmul_rate(config.precision)))


def matmul_rate(precision: str) -> float:
    """Returns the floating-point operations a second of square matrix products."""
    size = 8192 if jax.devices()[0].platform == "gpu" else 1024
    repeats = 20

    @jax.jit
    def products(x):
        return jax.lax.fori_loop(0, repeats, lambda _, y: (x @ y) / size, x)

    x = jnp.ones((size, size), "bfloat16" if precision == "mixed_bfloat16" else "float32")
    products(x).block_until_ready()
    begin = time.perf_counter()
    products(x).block_until_ready()
    return repeats * 2 * size**3 / (time.perf_counter() - begin)


def share(config: RunConfig, views_per_second: float, rate: float) -> str:
    """Returns the rate of the network's matrix products, and its share of that of plain ones."""
    flops = 3 * config.model.num_flops * views_per_second  # the backward pass takes two thirds
    return (
        f"{flops / 1e12:.3g} TFLOP/s by the network's matrix products, {flops / rate:.1%} of the "
        f"{rate / 1e12:.3g} TFLOP/s of plain ones"
    )
