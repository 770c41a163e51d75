"""A run of 2,000 steps: the time of a step and the memory at its beginning and at its end.

`ms` is the median of the last 200 steps, `first_ms` that of the first 200 after a warm-up.
`grown_mib` is how much resident memory grew between step 200 and the end. `traced` counts how often
TensorFlow traced the steps of training and validation and the makers of views, and `traced_later`
how often after the first epoch.
"""

import collections
import os
import pathlib
import time

from benchmarks.turns import Contender

BATCH, WARM_UP, COUNTED, EPOCHS = 64, 50, 200, 10


def contenders(quick: bool) -> list[Contender]:
    steps = 500 if quick else 2000
    return [
        Contender(
            case=f"{steps:,} steps of the digits",
            name="tensorflow float32 (ours)",
            target=f"{__name__}:ours",
            arguments={"steps": steps},
            fresh=True,
        )
    ]


def ours(steps: int):
    import keras
    import numpy as np

    from sit_keras import SiTBackbone, SiTPretrainer, run_config
    from sit_keras.augment.pretext import TwoViews
    from sit_keras.data.pipeline import step_images
    from sit_keras.data.sources import load_source

    # Python runs them when TensorFlow traces them, and never else.
    traced = collections.Counter()
    for owner, name in (
        (SiTPretrainer, "train_step"),
        (SiTPretrainer, "test_step"),
        (TwoViews, "__call__"),
    ):
        setattr(owner, name, _counted(getattr(owner, name), name, traced))

    config = run_config("digits")
    backbone = SiTBackbone.from_preset("digits", load_weights=False)
    model = SiTPretrainer(backbone, projection_dim=config.model.projection_dim)
    model.compile()
    source = load_source("digits")
    held_out = source.test.take(np.arange(BATCH)).items
    ends, resident, traced_by_epoch = [], {}, []

    def after_step(step, logs):
        ends.append(time.perf_counter())
        if len(ends) in (COUNTED, steps):
            resident[len(ends)] = _resident_mib()

    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=after_step,
        on_epoch_end=lambda epoch, logs: traced_by_epoch.append(traced.total()),
    )

    def measure():
        model.fit(
            step_images(source.train, model.two_views, BATCH, 0, steps),
            validation_data=held_out,
            epochs=EPOCHS,
            steps_per_epoch=steps // EPOCHS,
            callbacks=[watch],
            verbose=0,
        )
        milliseconds = 1e3 * np.diff(ends)
        return {
            "ms": float(np.median(milliseconds[-COUNTED:])),
            "first_ms": float(np.median(milliseconds[WARM_UP : WARM_UP + COUNTED])),
            "grown_mib": resident[steps] - resident[COUNTED],
            "traced": traced_by_epoch[0],
            "traced_later": traced_by_epoch[-1] - traced_by_epoch[0],
        }

    return measure


def _counted(function, name, counts):
    def count(*args, **kwargs):
        counts[name] += 1
        return function(*args, **kwargs)

    return count


def _resident_mib() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
