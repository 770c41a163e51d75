"""Time of a training step, with its views: milliseconds, images a second, and the first step.

python benchmarks/pretraining_step.py
python benchmarks/pretraining_step.py digits --steps=150
"""

import argparse
import json
import subprocess
import sys
import time

# Of each case: a preset, what of the network differs, the batch, and the size of the images.
CASES = {
    "digits": ("digits", {}, 64, 8),
    "cifar10": ("native32", {"num_layers": 12}, 64, 32),
    "native96": ("native96", {}, 32, 96),
}


def measure(case: str, steps: int) -> dict[str, float]:
    """Trains on random pixels, which cost what real ones do, and returns the figures."""
    begin = time.perf_counter()
    import keras
    import numpy as np

    from sit_keras import SiTBackbone, SiTPretrainer, run_config
    from sit_keras.data.images import ImageSet
    from sit_keras.data.pipeline import step_images

    preset, changes, batch, size = CASES[case]
    config = run_config(preset)
    backbone = SiTBackbone.from_preset(preset, load_weights=False, **changes)
    model = SiTPretrainer(backbone, projection_dim=config.model.projection_dim)
    model.compile()
    pixels = np.random.default_rng(0).integers(0, 256, (10 * batch, size, size, 3), dtype=np.uint8)
    images = ImageSet(pixels, np.full(len(pixels), -1))
    ends = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: ends.append(time.perf_counter())
    )
    dataset = step_images(images, model.two_views, batch, 0, steps)
    model.fit(dataset, steps_per_epoch=steps, verbose=0, callbacks=[clock])
    settled = np.diff(ends)[steps // 4 :]
    return {
        "first_step_s": ends[0] - begin,
        "step_ms": 1e3 * float(np.median(settled)),
        "images_per_s": batch / float(np.median(settled)),
        "bytes_per_image_to_device": pixels[0].nbytes,
    }


def main() -> None:
    """Measures each case in a process of its own, so that the first step is that of a new one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--steps", type=int, default=12, help="steps to take in each case")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.cases[0], options.steps)))
        return
    for case in options.cases:
        command = [sys.executable, __file__, case, f"--steps={options.steps}", "--here"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        figures = json.loads(output.splitlines()[-1])
        print(f"{case:10}", ", ".join(f"{name} {value:.1f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
