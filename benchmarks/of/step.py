"""The whole pre-training step: views, corruptions, forward and backward pass, AdamW.

Ours is what `model.fit` does with `step_images`. The straightforward PyTorch step works image by
image and view by view; the good one on the batch at once. Random pixels cost what real ones do.
A quick look leaves out bfloat16 and `torch.compile`, which the one at `network` has.
"""

import os
import statistics
import sys
import time

import numpy as np

from benchmarks.contenders.cases import case, case_names
from benchmarks.contenders.operations import step_gflop
from benchmarks.contenders.timing import repeated
from benchmarks.turns import ROOT, Contender

STEPS = 4  # of a round, whose figure is their median
BATCHES = 10  # of different images


def contenders(quick: bool) -> list[Contender]:
    found = []
    for name in case_names(quick):
        for precision in ("float32",) if quick else ("float32", "bfloat16"):
            work = {"name": name, "precision": precision}

            def add(who, function, packages, changes=None, environment=None, work=work):
                found.append(
                    Contender(
                        case=" ".join(work.values()),
                        name=who,
                        target=f"{__name__}:{function}",
                        arguments={**work, **(changes or {})},
                        packages=packages,
                        environment=environment or {},
                    )
                )

            add(f"tensorflow {precision} (ours)", "ours", ("tensorflow",))
            add(f"torch {precision} (good)", "good", ("torch",), {"compiled": False})
            if precision == "float32" and not quick:
                add("torch float32 (good, compiled)", "good", ("torch",), {"compiled": True})
            if precision == "float32":
                add("torch float32 (straightforward)", "straightforward", ("torch",))
                add("jax float32 (ours)", "jax_loop", ("jax",), None, {"KERAS_BACKEND": "jax"})
    return found


def ours(name: str, precision: str):
    import keras

    from sit_keras import ImageSet, SiTBackbone, SiTPretrainer
    from sit_keras.data.pipeline import step_images

    config = case(name)
    backbone = SiTBackbone(
        **config.model.backbone_arguments(),
        dtype="mixed_bfloat16" if precision == "bfloat16" else "float32",
    )
    model = SiTPretrainer(
        backbone,
        views=config.views,
        corruption=config.corruption,
        projection_dim=config.model.projection_dim,
    )
    model.compile()
    pixels = _pixels(config)
    images = ImageSet(pixels, np.full(len(pixels), -1))
    dataset = step_images(images, model.two_views, config.batch_size, 0, 1_000_000)
    ends = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: ends.append(time.perf_counter())
    )

    def measure():
        ends.clear()
        # The first step of a `fit` waits for the pipeline to start, and ends no interval.
        model.fit(dataset, steps_per_epoch=1 + STEPS, verbose=0, callbacks=[clock])
        return _figures(config, statistics.median(np.diff(ends)))

    measure()
    return measure


def good(name: str, precision: str, compiled: bool):
    from benchmarks.contenders.torch_step import good_step

    config = case(name)
    step = good_step(config, _pixels(config), precision, compiled)
    return _repeated(config, step)


def straightforward(name: str, precision: str):
    from benchmarks.contenders.torch_straightforward import straightforward_step

    config = case(name)
    return _repeated(config, straightforward_step(config, _pixels(config)))


def jax_loop(name: str, precision: str):
    sys.path.insert(0, os.fspath(ROOT / "examples" / "jax"))
    import jax
    from jax_step import Pretraining

    config = case(name)
    pretraining = Pretraining(config, _pixels(config))
    call, state = pretraining.compiled(STEPS), pretraining.state()

    def measure():
        nonlocal state
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(call(state, 0))
        return _figures(config, (time.perf_counter() - begin) / STEPS)

    measure()
    return measure


def _pixels(config):
    size, count = config.model.image_size, BATCHES * config.batch_size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def _repeated(config, step):
    measure = repeated(step, STEPS)
    return lambda: _figures(config, measure()["ms"] / 1e3)


def _figures(config, seconds):
    return {
        "ms": 1e3 * float(seconds),
        "images_per_s": config.batch_size / float(seconds),
        "gflop": step_gflop(config),
    }
