"""Pre-trains with the same core as train.py, as a compiled JAX loop. Needs no TensorFlow.

python benchmarks/pack_images.py cifar10 packed/cifar10        where TensorFlow is
python benchmarks/jax_pretrain.py --images=packed/cifar10 --preset=small --measure
python benchmarks/jax_pretrain.py --images=packed/cifar10 --preset=native32 \\
    --set=precision=mixed_bfloat16 --output=runs/jax-cifar10 --max_minutes=9     and again, to go on
python -m sit_keras.pieces runs/jax-cifar10                    where TensorFlow is
python evaluate.py --run=runs/jax-cifar10

Images stay on the device as uint8. Views and corruptions are drawn there from the seed and the
step, so a run that goes on draws what it would have drawn.
"""

import argparse
import hashlib
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

from sit_keras.augment import pretext
from sit_keras.config.presets import presets, recipe
from sit_keras.config.serialization import assignments, changed, differences
from sit_keras.config.settings import RunConfig
from sit_keras.runs.files import load_json, save_json, write_text

MEASURED_CALLS = 5
MAX_STATES = 2
SAVE_SECONDS = 300
SAVING_SECONDS = 30  # kept back for the last save
MAX_SKIPPED = 10  # steps in a row whose gradient is not finite
BEGIN = time.monotonic()


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
    views = pretext.NUM_VIEWS * config.batch_size / seconds
    print(f"{config.preset}, batch {config.batch_size}, {config.precision}: {seconds * 1e3:.2f} ms")
    print(share_of(rate, config, views))


def restore(pretraining: Pretraining, output: pathlib.Path, images_id: str) -> int:
    """Loads the newest complete state; returns its step, 0 if there is none."""
    for folder in sorted((output / "states").glob("*"), reverse=True):
        try:
            arrays = pieces.read(folder)
        except ValueError as error:
            print(f"Left aside: {error}")
            continue
        if pieces.read_index(folder)["about"]["images"] != images_id:
            raise ValueError(f"{output} was trained on other images: give another --output.")
        state = tuple(
            [arrays[f"{number}/{place}"] for place in range(len(group))]
            for number, group in enumerate(pretraining.groups)
        )
        pretraining.load(state)
        return int(folder.name)
    return 0


def save(pretraining: Pretraining, step: int, output: pathlib.Path, images_id: str) -> None:
    """Writes a state from which the run can go on, and removes older and unreadable ones."""
    here = output / "states" / f"{step:08d}"
    pieces.write(here, pretraining.named(), images=images_id)
    states = sorted((output / "states").iterdir())
    done = states.index(here) + 1  # what lies beyond could not be read, or this were not here
    for other in (*states[: max(0, done - MAX_STATES)], *states[done:]):
        shutil.rmtree(other)


def train(
    pretraining: Pretraining,
    images_id: str,
    output: pathlib.Path,
    steps_per_call: int,
    max_minutes: float | None,
    rate: float,
) -> None:
    """Trains to the end or until the time is over, saving before it leaves."""
    steps_per_epoch = pretraining.steps_per_epoch
    total = pretraining.config.epochs * steps_per_epoch
    step = restore(pretraining, output, images_id)
    print(f"{total:,} steps, {steps_per_epoch} an epoch; from step {step:,}.", flush=True)
    log = output / "log.csv"
    lines = log.read_text().splitlines() if log.exists() else []
    lines = lines[: 1 + step // steps_per_epoch]  # epochs that were not saved come again
    state, calls = pretraining.state(), {}
    saved = epoch_begin = time.monotonic()
    measured, longest, skipped = [], 0.0, 0
    while step < total:
        length = min(steps_per_call, steps_per_epoch - step % steps_per_epoch)
        is_new, call_begin = length not in calls, time.monotonic()
        if is_new:
            calls[length] = pretraining.compiled(length)
        state, values = calls[length](state, step)
        measured.append(jax.device_get(values))
        step += length
        for skip in measured[-1]["skipped"]:
            skipped = skipped + 1 if skip else 0
        if skipped >= MAX_SKIPPED:
            nan = [name for name, value in measured[-1].items() if not np.isfinite(value[-1])]
            raise ArithmeticError(
                f"The last {skipped} steps up to {step:,} were not finite "
                f"({', '.join(nan) or 'the gradient'}): lower the learning rate. The last state "
                f"saved is in {output / 'states'}."
            )
        now = time.monotonic()
        if not is_new:  # the first of a length compiles it
            longest = max(longest, now - call_begin)
        if step % steps_per_epoch == 0:
            pretraining.load(state)
            row = _row(pretraining, step, measured, now - epoch_begin)
            lines = lines or [",".join(row)]
            lines.append(",".join(f"{value:.7g}" for value in row.values()))
            print(" | ".join(f"{name} {value:.4g}" for name, value in row.items()))
            print(share_of(rate, pretraining.config, row["views_per_second"]), flush=True)
            state, measured, epoch_begin = pretraining.state(), [], now
        spare = 2 * longest + SAVING_SECONDS
        over = max_minutes is not None and now - BEGIN + spare > 60 * max_minutes
        if over or step == total or now - saved > SAVE_SECONDS:
            pretraining.load(state)
            save(pretraining, step, output, images_id)
            write_text(log, "".join(f"{line}\n" for line in lines))
            state, saved = pretraining.state(), now
        if over and step < total:
            print(f"Stopped after {step:,} steps: give the same command again to go on.")
            return
    weights = {weight.path: np.asarray(weight.value) for weight in pretraining.network.weights}
    pieces.write(output / pieces.WEIGHTS, weights)
    print(f"Weights: {output / pieces.WEIGHTS}\nNext:    python -m sit_keras.pieces {output}")


def _row(pretraining, step, measured, seconds):
    """What is known of an epoch, or of its rest after a stop, in the columns of train.py's log."""
    weighting = pretraining.weighting
    columns = {name: np.concatenate([each[name] for each in measured]) for name in measured[0]}
    # A step that was left out has no loss to be averaged.
    means = {
        name: np.mean(values[np.isfinite(values)]) if np.isfinite(values).any() else float("nan")
        for name, values in columns.items()
    }
    alphas = {f"alpha_{task}": value for task, value in weighting.alphas().items()}
    weights = {f"weight_{task}": value for task, value in weighting.task_weights().items()}
    row = {"epoch": step // pretraining.steps_per_epoch - 1, **means, **alphas, **weights}
    row["learning_rate"] = pretraining.optimizer.learning_rate
    views = pretext.NUM_VIEWS * pretraining.config.batch_size * len(columns["loss"])
    row["views_per_second"] = views / seconds
    return {name: float(value) for name, value in row.items()}


def load_images(folder: str) -> tuple[np.ndarray, str, str]:
    """The images in a folder of benchmarks/pack_images.py, their data set, and what tells them."""
    index, arrays = pieces.read_index(folder), pieces.read(folder)
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"{folder} has no images: expected a folder of benchmarks/pack_images.py.")
    images_id = hashlib.sha256("".join(index["sha256"]).encode()).hexdigest()
    return images, index["about"]["dataset"], images_id


def settle(config: RunConfig, output: pathlib.Path) -> None:
    """Makes the run folder and writes the settings; refuses a folder with another run."""
    if (output / "checkpoints").exists() or (output / "encoder.keras").exists():
        raise ValueError(f"{output} holds a run of train.py or a finished one: give another.")
    settings = output / "config.json"
    if settings.exists() and (output / "states").exists():
        other = differences(load_json(RunConfig, settings, extra=["versions"]), config)
        if other:
            raise ValueError(
                f"{output} holds a run with other settings ({'; '.join(other)}): give another "
                "--output, or the same settings to go on with it."
            )
    output.mkdir(parents=True, exist_ok=True)
    save_json(config, settings, versions={"jax": jax.__version__, "keras": keras.__version__})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True, help="folder of benchmarks/pack_images.py")
    parser.add_argument("--preset", default="native32", choices=list(presets()))
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, as for train.py")
    parser.add_argument("--steps_per_call", type=int, default=20, help="steps in one dispatch")
    parser.add_argument("--max_minutes", type=float, help="save and leave before this is over")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=pathlib.Path, help="the run folder; one in it goes on")
    what.add_argument("--measure", action="store_true", help="print the speed, and stop")
    options = parser.parse_args()
    if options.steps_per_call < 1:
        raise ValueError(f"--steps_per_call must be at least 1, received {options.steps_per_call}.")
    images, dataset, images_id = load_images(options.images)
    config = changed(recipe(options.preset, dataset=dataset, holdout=0.0), assignments(options.set))
    pretraining = Pretraining(config, images)
    print(f"JAX {jax.__version__}, Keras {keras.__version__}, {jax.devices()[0].device_kind}")
    rate = matmul_rate("bfloat16" if config.precision == "mixed_bfloat16" else "float32")
    if options.measure:
        measure(pretraining, options.steps_per_call, rate)
        return
    settle(config, options.output)
    train(pretraining, images_id, options.output, options.steps_per_call, options.max_minutes, rate)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ArithmeticError) as error:
        sys.exit(f"jax_pretrain.py: {error}")
