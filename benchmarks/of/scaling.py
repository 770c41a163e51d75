"""Time per step against the batch, the size of the images, the depth and the width.

Around 12 blocks of width 192 on images of 32 pixels in patches of 4, 64 images a step. Each step is
what `model.fit` does, with views, two of each image, and AdamW.
"""

import statistics
import time

from benchmarks.turns import Contender

BASE = {"batch": 64, "image_size": 32, "depth": 12, "width": 192}
VALUES = {
    "batch": (16, 32, 64, 128),
    "image_size": (16, 24, 32, 48),
    "depth": (3, 6, 12, 24),
    "width": (64, 128, 192, 384),
}
QUICK = {"batch": 8, "image_size": 8, "depth": 1, "width": 64}
STEPS = 2  # of a round, whose figure is their median
HEAD = 64  # the width of an attention head


def contenders(quick: bool) -> list[Contender]:
    found = []
    for what in ("batch",) if quick else VALUES:
        for value in (8, 16) if quick else VALUES[what]:
            found.append(
                Contender(
                    case=what.replace("_", " "),
                    name=f"tensorflow float32 (ours) at {value}",
                    target=f"{__name__}:step",
                    arguments={**(QUICK if quick else BASE), what: value, "what": what},
                )
            )
    return found


def summary(cases: dict[str, list[dict]]) -> list[str]:
    """Returns the exponents p of `ms = c * value ** p`, fitted to the medians of each case."""
    import numpy as np

    lines = []
    for case, rows in cases.items():
        values, times = ([row["figures"][name][0] for row in rows] for name in ("value", "ms"))
        if len(set(values)) > 1:
            exponent = np.polyfit(np.log(values), np.log(times), 1)[0]
            each = np.diff(np.log(times)) / np.diff(np.log(values))
            steps = ", ".join(f"{x:.2f}" for x in each)
            lines.append(f"The time grows with the {case} to the power {exponent:.2f} ({steps}).")
    return lines


def step(batch: int, image_size: int, depth: int, width: int, what: str):
    import keras
    import numpy as np

    from sit_keras import ImageSet, SiTBackbone, SiTPretrainer
    from sit_keras.data.pipeline import step_images

    value = {"batch": batch, "image_size": image_size, "depth": depth, "width": width}[what]
    backbone = SiTBackbone(
        image_shape=(image_size, image_size, 3),
        patch_size=4,
        hidden_dim=width,
        num_layers=depth,
        num_heads=width // HEAD,
        mlp_dim=4 * width,
    )
    model = SiTPretrainer(backbone)
    model.compile()
    shape = 4 * batch, image_size, image_size, 3
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = ImageSet(pixels, np.full(len(pixels), -1))
    dataset = step_images(images, model.two_views, batch, 0, 1_000_000)
    ends = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: ends.append(time.perf_counter())
    )

    def measure():
        ends.clear()
        # The first step of a `fit` waits for the pipeline to start, and ends no interval.
        steps = 1 + STEPS
        model.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[clock])
        return {"value": value, "ms": 1e3 * statistics.median(np.diff(ends))}

    measure()
    return measure
