"""Pre-trains with the same core as train.py, as a compiled JAX loop. Needs no TensorFlow.

python benchmarks/jax_pretrain.py --output=runs/jax-digits                       the digits
python benchmarks/jax_pretrain.py --images=packed/cifar10 --dataset=cifar10 --preset=native32 \\
    --set=precision=mixed_bfloat16 --output=runs/jax-cifar10 --max_minutes=9     and again, to go on
python benchmarks/jax_pretrain.py --images=packed/cifar10 --preset=small --measure

Images stay on the device as uint8. Views and corruptions are drawn there from the seed and the
step, so a run that goes on draws what it would have drawn. Afterwards, where TensorFlow is:
`python -m sit_keras.pieces runs/jax-cifar10`, and `python evaluate.py --run=runs/jax-cifar10`.
"""

import argparse
import os
import pathlib
import shutil
import sys
import time

os.environ["KERAS_BACKEND"] = "jax"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from jax_step import Pretraining  # noqa: E402

from sit_keras import pieces, presets, pretext_views, recipe  # noqa: E402
from sit_keras.config import RunConfig  # noqa: E402
from sit_keras.config_json import (  # noqa: E402
    assignments,
    changed,
    differences,
    load_json,
    save_json,
    write_text,
)

MEASURED_CALLS = 5
MAX_STATES = 2
SAVE_SECONDS = 300


def matmul_rate(dtype: str) -> float:
    """Returns the floating-point operations a second of square matrix products."""
    size = 8192 if jax.devices()[0].platform == "gpu" else 1024
    repeats = 20

    @jax.jit
    def products(x):
        return jax.lax.fori_loop(0, repeats, lambda _, y: (x @ y) / size, x)

    x = jnp.ones((size, size), dtype)
    products(x).block_until_ready()
    begin = time.perf_counter()
    products(x).block_until_ready()
    return repeats * 2 * size**3 / (time.perf_counter() - begin)


def share_of(rate: float, config: RunConfig, views_per_second: float) -> str:
    """Returns the throughput and its share of the measured rate of matrix products."""
    # A backward pass takes twice the forward one's.
    flops = 3 * config.model.num_flops * views_per_second
    return (
        f"{views_per_second:,.0f} views/s, {flops / 1e12:.3g} TFLOP/s by the network's matrix "
        f"products, {flops / rate:.1%} of the {rate / 1e12:.3g} TFLOP/s of plain ones"
    )


def measure(pretraining: Pretraining, steps_per_call: int, rate: float) -> None:
    """Prints how fast the steps are, and takes none for good."""
    config, begin = pretraining.config, time.perf_counter()
    call, state = pretraining.compiled(steps_per_call), pretraining.state()
    state, _ = jax.block_until_ready(call(state, 0))
    print(f"compiled and first call: {time.perf_counter() - begin:.1f} s", flush=True)
    begin = time.perf_counter()
    for _ in range(MEASURED_CALLS):
        state, _ = call(state, 0)
    jax.block_until_ready(state)
    seconds = (time.perf_counter() - begin) / (MEASURED_CALLS * steps_per_call)
    views = pretext_views.NUM_VIEWS * config.batch_size / seconds
    print(f"{config.preset}, batch {config.batch_size}, {config.precision}: {seconds * 1e3:.2f} ms")
    print(share_of(rate, config, views))


def restore(pretraining: Pretraining, output: pathlib.Path) -> int:
    """Loads the newest complete state; returns its step, 0 if there is none."""
    for folder in sorted((output / "states").glob("*"), reverse=True):
        try:
            arrays = pieces.read(folder)
        except ValueError as error:
            print(f"Left aside: {error}")
            continue
        wanted = pretraining.named()
        pretraining.load(
            tuple(
                [arrays[name] for name in wanted if name.startswith(f"{number}/")]
                for number in range(len(pretraining.groups))
            )
        )
        return int(folder.name)
    return 0


def train(
    pretraining: Pretraining,
    output: pathlib.Path,
    steps_per_call: int,
    max_minutes: float | None,
    rate: float,
) -> None:
    """Trains to the end or until the time is over, saving before it leaves."""
    config, steps_per_epoch = pretraining.config, pretraining.steps_per_epoch
    total, step = config.epochs * steps_per_epoch, restore(pretraining, output)
    print(f"{total:,} steps, {steps_per_epoch} an epoch; from step {step:,}.", flush=True)
    log = output / "log.csv"
    lines = log.read_text().splitlines() if log.exists() else []
    lines = lines[: 1 + step // steps_per_epoch]  # epochs that were not saved come again
    state, calls = pretraining.state(), {}
    begin = saved = time.monotonic()
    while step < total:
        epoch_begin, measured = time.monotonic(), []
        end = step + steps_per_epoch
        while step < end:
            length = min(steps_per_call, end - step)
            if length not in calls:
                calls[length] = pretraining.compiled(length)
            state, values = calls[length](state, step)
            measured.append(jax.device_get(values))
            step += length
        pretraining.load(state)
        now = time.monotonic()
        seconds = now - epoch_begin
        row = _row(pretraining, step, measured, seconds)
        lines = lines or [",".join(row)]
        lines.append(",".join(f"{value:.7g}" for value in row.values()))
        print(" | ".join(f"{name} {value:.4g}" for name, value in row.items()))
        print(share_of(rate, config, row["views_per_second"]), flush=True)
        over = max_minutes is not None and now - begin + 1.5 * seconds > 60 * max_minutes
        if over or step == total or now - saved > SAVE_SECONDS:
            pieces.write(output / "states" / f"{step:08d}", pretraining.named())
            for old in sorted((output / "states").iterdir())[:-MAX_STATES]:
                shutil.rmtree(old)
            write_text(log, "\n".join(lines) + "\n")
            saved = now
        if over and step < total:
            print(f"Stopped after {step:,} steps: give the same command again to go on.")
            return
        state = pretraining.state()
    weights = {weight.path: np.asarray(weight.value) for weight in pretraining.network.weights}
    pieces.write(output / pieces.WEIGHTS, weights)
    print(f"Weights: {output / pieces.WEIGHTS}\nNext:    python -m sit_keras.pieces {output}")


def _row(pretraining, step, measured, seconds):
    """What is known of an epoch, in the columns of train.py's log."""
    config, steps = pretraining.config, pretraining.steps_per_epoch
    weighting = pretraining.weighting
    means = {
        name: np.mean(np.concatenate([each[name] for each in measured])) for name in measured[0]
    }
    alphas = {f"alpha_{task}": value for task, value in weighting.alphas().items()}
    weights = {f"weight_{task}": value for task, value in weighting.task_weights().items()}
    row = {"epoch": step // steps - 1, **means, **alphas, **weights}
    row["learning_rate"] = pretraining.optimizer.learning_rate
    row["views_per_second"] = pretext_views.NUM_VIEWS * config.batch_size * steps / seconds
    return {name: float(value) for name, value in row.items()}


def load_images(folder: str | None) -> np.ndarray:
    """The images in a folder of pieces, or the training part of the digits."""
    if folder is not None:
        return pieces.read(folder)["images"]
    from sklearn.datasets import load_digits

    # The last fifth stays for those who judge the encoder.
    grey = np.round(load_digits().images[:1437] * (255 / 16)).astype("uint8")
    return np.repeat(grey[..., None], 3, axis=-1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", help="folder of benchmarks/pack_images.py. Default: the digits")
    parser.add_argument("--dataset", default="digits", help="what to call them, for evaluate.py")
    parser.add_argument("--preset", default="digits", choices=list(presets()))
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, as for train.py")
    parser.add_argument("--output", type=pathlib.Path, help="the run folder; one in it goes on")
    parser.add_argument("--steps_per_call", type=int, default=20, help="steps in one dispatch")
    parser.add_argument("--max_minutes", type=float, help="save and leave before this is over")
    parser.add_argument("--measure", action="store_true", help="print the speed, and stop")
    options = parser.parse_args()
    config = changed(recipe(options.preset, dataset=options.dataset), assignments(options.set))
    if config.precision == "mixed_float16":
        raise ValueError("mixed_float16 wants a loss scale: use mixed_bfloat16.")
    pretraining = Pretraining(config, load_images(options.images))
    print(f"JAX {jax.__version__}, Keras {keras.__version__}, {jax.devices()[0].device_kind}")
    rate = matmul_rate("bfloat16" if config.precision == "mixed_bfloat16" else "float32")
    if options.measure:
        measure(pretraining, options.steps_per_call, rate)
        return
    if options.output is None:
        raise ValueError("Give --output, the run folder, or --measure.")
    options.output.mkdir(parents=True, exist_ok=True)
    settings = options.output / "config.json"
    if settings.exists():
        other = differences(load_json(RunConfig, settings, extra=["versions"]), config)
        if other:
            raise ValueError(f"{options.output} holds a run with other settings: {other}.")
    versions = {"jax": jax.__version__, "keras": keras.__version__}
    save_json(config, settings, versions=versions)
    train(pretraining, options.output, options.steps_per_call, options.max_minutes, rate)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"jax_pretrain.py: {error}")
