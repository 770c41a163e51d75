"""Memory and time of a training step whose batch goes through the network in parts.

python benchmarks/micro_batches.py
"""

import resource
import subprocess
import sys
import time

BATCH, PARTS, STEPS = 128, (1, 2, 4, 8), 2


def measure(parts: int) -> None:
    """Prints the peak of memory over that of the idle model in MiB, and the seconds of a step."""
    import keras
    import numpy as np
    import tensorflow as tf

    from sit_keras import SiTBackbone, SiTPretrainer

    images = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8)
    backbone = SiTBackbone.from_preset("native32", load_weights=False)
    model = SiTPretrainer(backbone, micro_batches=parts)
    model.compile(keras.optimizers.SGD(0.01))
    views = model.make_views(images, tf.constant(0, tf.int64))
    step = tf.function(model.train_step)
    step.get_concrete_function(views)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(views)
    begin = time.perf_counter()
    for _ in range(STEPS):
        step(views)
    seconds = (time.perf_counter() - begin) / STEPS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((peak - idle) / 1024, seconds)


def main() -> None:
    """Measures each number of parts in a process of its own, the peak being one a process."""
    print(f"native32, {BATCH} images: parts, peak MiB, seconds, and both to those of the whole")
    whole = None
    for parts in PARTS:
        command = [sys.executable, __file__, str(parts)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        figures = [float(word) for word in output.split()[-2:]]
        whole = whole or figures
        memory, seconds = (a / b for a, b in zip(figures, whole, strict=True))
        print(f"{parts:2} {figures[0]:8.0f} {figures[1]:8.2f} {memory:8.2f} {seconds:8.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        main()
