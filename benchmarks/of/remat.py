"""What a training step needs in memory and time: plain, with remat, and in micro-batches.

Memory is the peak above that of the idle model: of the process on a CPU, of the device on a GPU.
"""

import time

from benchmarks.memory import peak_mib
from benchmarks.turns import Contender

# What differs from the plain step.
WAYS = {
    "": {},
    " remat": {"remat": True},
    " micro_batches=2": {"micro_batches": 2},
    " micro_batches=4": {"micro_batches": 4},
}


def contenders(quick: bool) -> list[Contender]:
    found = []
    for batch in (16,) if quick else (32, 64):
        for way, settings in WAYS.items():
            found.append(
                Contender(
                    case=f"native96, {batch} images",
                    name=f"tensorflow float32 (ours){way}",
                    target=f"{__name__}:ours",
                    arguments={"batch": batch, "steps": 1 if quick else 3, "settings": settings},
                    packages=("tensorflow",),
                    fresh=True,
                )
            )
    return found


def ours(batch: int, steps: int, settings: dict):
    import keras
    import numpy as np
    import tensorflow as tf

    from sit_keras import SiTBackbone, SiTPretrainer

    model = SiTPretrainer(SiTBackbone.from_preset("native96", load_weights=False), **settings)
    model.compile(keras.optimizers.SGD(0.01))
    images = np.random.default_rng(0).integers(0, 256, (batch, 96, 96, 3), dtype=np.uint8)
    views = model.make_views(images, tf.constant(0, tf.int64))
    step = tf.function(model.train_step, autograph=False)
    step.get_concrete_function(views)
    idle = _peak_mib(tf)

    def measure():
        step(views)["loss"].numpy()
        begin = time.perf_counter()
        for _ in range(steps):
            step(views)["loss"].numpy()
        seconds = (time.perf_counter() - begin) / steps
        return {"ms": 1e3 * seconds, "peak_mib": _peak_mib(tf) - idle}

    return measure


def _peak_mib(tf):
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return peak_mib()
