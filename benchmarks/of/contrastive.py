"""The contrastive loss and its gradient by batch: time, and memory over that of the idle process.

The embeddings are 512 wide and in float32. The peak is that of the first batch of its size in its
process, after a tiny one; the time is the median of the next three. `ours` compares a block of
anchors at a time; the others hold the whole matrix of logits.
"""

import pathlib
import statistics
import time

from benchmarks.memory import peak_mib
from benchmarks.turns import Contender

WIDTH, TEMPERATURE, TIMES = 512, 0.5, 3
CONTENDERS = {
    "tensorflow float32 (ours)": ("ours", "tensorflow"),
    "tensorflow float32 dense": ("tensorflow_dense", "tensorflow"),
    "torch float32 dense": ("torch_dense", "torch"),
    "jax float32 (ours)": ("jax_ours", "jax"),
    "jax float32 dense": ("jax_dense", "jax"),
}


def contenders(quick: bool) -> list[Contender]:
    return [
        Contender(
            case=f"{pairs:,} pairs",
            name=name,
            target=f"{__name__}:{function}",
            arguments={"pairs": pairs},
            packages=(package,),
            environment={"KERAS_BACKEND": "jax"} if package == "jax" else {},
            fresh=True,
        )
        for pairs in ((64, 256, 1024) if quick else (64, 256, 1024, 4096, 8192))
        for name, (function, package) in CONTENDERS.items()
    ]


def ours(pairs: int):
    from sit_keras.models.losses import nt_xent

    def loss(x, rows):
        return nt_xent(x, x, rows, rows ^ 1, TEMPERATURE)

    return _in_tensorflow(loss, pairs)


def tensorflow_dense(pairs: int):
    import tensorflow as tf

    def loss(x, rows):
        unit = tf.math.l2_normalize(x, axis=1)
        logits = tf.matmul(unit / TEMPERATURE, unit, transpose_b=True)
        logits = tf.where(rows[None, :] == rows[:, None], -1e9, logits)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(rows ^ 1, logits)
        hits = tf.argmax(logits, 1, tf.int32) == rows ^ 1
        return tf.reduce_mean(losses), tf.reduce_mean(tf.cast(hits, tf.float32))

    return _in_tensorflow(loss, pairs)


def torch_dense(pairs: int):
    import torch

    def work(x):
        x = x.clone().requires_grad_()
        rows = torch.arange(len(x))
        unit = torch.nn.functional.normalize(x, dim=1)
        logits = unit @ unit.T / TEMPERATURE
        logits = logits.masked_fill(rows[None, :] == rows[:, None], -1e9)
        loss = torch.nn.functional.cross_entropy(logits, rows ^ 1)
        hits = (logits.argmax(1) == rows ^ 1).float().mean()
        loss.backward()
        return loss.item(), hits.item(), x.grad

    return _measured(work, lambda count: torch.randn(count, WIDTH), pairs)


def jax_ours(pairs: int):
    from sit_keras.models.losses import nt_xent

    return _in_jax(lambda x, rows: nt_xent(x, x, rows, rows ^ 1, TEMPERATURE), pairs)


def jax_dense(pairs: int):
    import jax
    import jax.numpy as jnp

    def loss(x, rows):
        unit = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        logits = unit / TEMPERATURE @ unit.T
        logits = jnp.where(rows[None, :] == rows[:, None], -1e9, logits)
        log_shares = jax.nn.log_softmax(logits)
        hits = logits.argmax(1) == rows ^ 1
        return -jnp.mean(log_shares[rows, rows ^ 1]), jnp.mean(hits)

    return _in_jax(loss, pairs)


def _in_tensorflow(loss, pairs):
    import tensorflow as tf

    @tf.function(autograph=False)
    def work(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            mean, accuracy = loss(x, tf.range(tf.shape(x)[0]))
        return mean, accuracy, tape.gradient(mean, x)

    def finished(x):
        return [value.numpy() for value in work(x)[:2]]

    def make(count):
        x = tf.random.stateless_normal((count, WIDTH), (0, 1))
        work.get_concrete_function(x)
        return x

    return _measured(finished, make, pairs)


def _in_jax(loss, pairs):
    import jax
    import jax.numpy as jnp

    @jax.jit
    def work(x):
        return jax.value_and_grad(lambda x: loss(x, jnp.arange(len(x))), has_aux=True)(x)

    def make(count):
        x = jax.random.normal(jax.random.key(0), (count, WIDTH))
        work.lower(x).compile()
        return x

    return _measured(lambda x: jax.block_until_ready(work(x)), make, pairs)


def _measured(work, make, pairs):
    """Runs the work once on a tiny batch, and returns what measures it on the one asked for."""
    work(make(16))
    x = make(2 * pairs)

    def measure():
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        idle = peak_mib()
        work(x)
        peak = peak_mib()
        times = []
        for _ in range(TIMES):
            begin = time.perf_counter()
            work(x)
            times.append(time.perf_counter() - begin)
        # The logits, and what they give back to the anchors and to the candidates.
        gflop = 3 * 2 * (2 * pairs) ** 2 * WIDTH / 1e9
        milliseconds = 1e3 * statistics.median(times)
        return {"ms": milliseconds, "peak_mib": peak - idle, "gflop": gflop}

    return measure
