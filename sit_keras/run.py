"""One pre-training run, from its settings to a folder of results."""

import contextlib
import json
import os
import pathlib
import time
import zlib

import keras
import tensorflow as tf

from sit_keras import callbacks, distribution, guards, loop
from sit_keras.checkpoint import Checkpoints
from sit_keras.config import RunConfig, check_micro_batches
from sit_keras.config_json import to_dict
from sit_keras.data import count_train_images
from sit_keras.evaluation import judge, verdict_table
from sit_keras.execution import Execution
from sit_keras.memory import limit_arenas
from sit_keras.optimization import build_optimizer
from sit_keras.pretrain import SiTPretrainer
from sit_keras.run_data import RunData, steps_per_epoch
from sit_keras.run_folder import (
    forget_later_epochs,
    full_disk_explained,
    last_losses,
    refuse_another_run,
    sole_run,
    write_settings,
)


def describe(config: RunConfig, data_dir: str | None = None, download: bool = False) -> dict:
    """Resolves what a run would do, without building the network or reading an image.

    Args:
        config: RunConfig.
        data_dir, download: as for `sit_keras.data.load_source`.

    Returns:
        A dict of the numbers of images, steps and parameters.
    """
    num_images, num_labelled = count_train_images(config.dataset, data_dir, download)
    num_held_out = round(config.holdout * (num_labelled or num_images))
    steps = steps_per_epoch(config, num_images - num_held_out)
    return {
        "train_images": num_images - num_held_out,
        "held_out_images": num_held_out,
        "steps_per_epoch": steps,
        "steps": steps * config.epochs,
        "views_per_step": 2 * config.batch_size,
        "encoder_parameters": config.model.num_encoder_parameters,
        "parameters": config.model.num_parameters,
        "peak_learning_rate": config.peak_learning_rate,
    }


def pretrain(
    config: RunConfig,
    run_dir: str | os.PathLike,
    data_dir: str | None = None,
    download: bool = False,
    execution: Execution | None = None,
) -> dict:
    """Pre-trains an encoder and judges it, writing everything to one folder.

    A folder with an unfinished run of the same settings is continued where it stopped; a
    finished one is returned as it is.

    Args:
        config: RunConfig.
        run_dir: the folder; several workers must see the same one. Gets `config.json`,
            `encoder.keras`, `results.json`, `log.csv`, `tensorboard/`, `sheets/`, `checkpoints/`
            and, after a loss that was none, `not_finite.jsonl`.
        data_dir, download: as for `sit_keras.data.load_source`.
        execution: Execution, or None for its defaults. A run may go on under another one.

    Returns:
        The results, as in `results.json`; on a worker that is not the chief, without the verdict.

    Raises:
        ValueError: for settings or data that do not fit, or a folder with another run in it.
        OSError: if the folder cannot be written.
        NonFiniteLoss: if a loss becomes NaN or infinite.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
        WorkerLost: if another worker dies.
    """
    run_dir, execution = pathlib.Path(run_dir), execution or Execution()
    refuse_another_run(run_dir, config, execution.resume)
    if (run_dir / "results.json").exists():
        print(f"{run_dir} is finished already; give another --run_dir or --seed to train anew.")
        return json.loads((run_dir / "results.json").read_text())

    limit_arenas()
    strategy = distribution.make_strategy(execution.strategy)
    is_chief = distribution.is_chief(strategy)
    data = RunData.load(config, data_dir, download)
    steps = data.steps_per_epoch
    with contextlib.ExitStack() as stack:
        if is_chief:
            stack.enter_context(sole_run(run_dir))
            write_settings(run_dir, config)
            _announce(config, data)
        stack.enter_context(_precision(config.precision))
        stack.enter_context(full_disk_explained(run_dir))
        stack.enter_context(distribution.worker_loss_explained())
        _agree(strategy, "settings and images", [to_dict(config), len(data.train)])
        with strategy.scope():
            model = _build(config, steps, execution.micro_batches)
            checkpoints = Checkpoints(model, run_dir / "checkpoints")
        seconds = _fit(model, checkpoints, data, run_dir, execution)
        results = {"steps": steps * config.epochs, "train_seconds": round(seconds, 1)}
        if is_chief:
            results |= {"losses": last_losses(run_dir / "log.csv"), **_verdict(model, data)}
            (run_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        _agree(strategy, "end", "reached")  # the others stay until the chief has judged
    return results


def draw_batch(
    config: RunConfig, step: int, data_dir: str | None = None, download: bool = False
) -> dict[str, tf.Tensor]:
    """Draws the batch of one step of a run again, such as one named in `not_finite.jsonl`.

    Args:
        config: RunConfig of the run.
        step: int. Counted from 0.
        data_dir, download: as for `sit_keras.data.load_source`.

    Returns:
        The views, as of `TwoViews`.
    """
    return next(iter(RunData.load(config, data_dir, download).views(step, step + 1)))


def _announce(config, data):
    print(
        f"{config.dataset}: {len(data.train)} images to train on, {len(data.held_out)} held out; "
        f"{data.steps_per_epoch} steps of {config.batch_size} images an epoch, {config.epochs} "
        f"epochs.\n{config.preset}: {config.model.num_parameters:,} parameters at "
        f"{config.model.square_size} px."
    )
    if not tf.config.list_physical_devices("GPU") and _is_large(config.model):
        print("No GPU was found, and this network wants one; the native presets cost a CPU less.")
    if config.weighting == "uncertainty":
        print("The loss adds log(alpha) of each task, so it can fall below zero.")


def _agree(strategy, what, value):
    """Raises ValueError unless all workers have the same value; waits for them all."""
    number = zlib.crc32(json.dumps(value).encode())
    if len(set(distribution.from_all_workers(strategy, number))) > 1:
        raise ValueError(
            f"The workers differ in their {what} (here: {value}). All need the same command, the "
            "same images, and a --run_dir on a disk that they share."
        )


def _build(config, steps_per_epoch, micro_batches):
    replicas = distribution.num_replicas()
    if config.batch_size % replicas:
        raise ValueError(
            f"A batch of {config.batch_size} does not divide among {replicas} replicas: use a "
            f"multiple of {replicas}."
        )
    check_micro_batches(config.batch_size // replicas, micro_batches)
    keras.utils.set_random_seed(config.seed)
    model = SiTPretrainer(
        config.model,
        tasks=config.tasks,
        weighting=config.weighting,
        task_weights=config.task_weights,
        temperature=config.temperature,
        negatives=config.negatives,
        clip_norm=config.clip_norm,
        micro_batches=micro_batches,
    )
    model.compile(build_optimizer(model, config, steps_per_epoch))
    return model


def _is_large(model):
    """Whether a CPU would need a good part of a second for each image."""
    rows, columns = model.grid
    return rows * columns * model.num_encoder_parameters > 1e9


@contextlib.contextmanager
def _precision(policy):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _fit(model, checkpoints, data, run_dir, execution):
    """Trains to the end, from the last checkpoint if there is one; returns the seconds."""
    config, steps, strategy = data.config, data.steps_per_epoch, model.distribute_strategy
    start_step = checkpoints.restore()
    _agree(strategy, "first step", start_step)
    is_chief = distribution.is_chief(strategy)
    if is_chief:
        forget_later_epochs(run_dir / "log.csv", start_step // steps)
        if start_step:
            print(f"Going on from step {start_step} of {run_dir}.")
    validation = data.validation_views(strategy.num_replicas_in_sync * model.micro_batches)

    position = guards.Position(start_step)
    stop = guards.StopOnSignal(checkpoints, position)
    record = run_dir / "not_finite.jsonl" if is_chief else None
    parts = [position, guards.WatchNonFinite(position, execution.on_nan, config.seed, record)]
    if is_chief:
        parts += _measures(data, next(iter(validation)))
        writers = _writers(data, next(iter(validation)), run_dir, checkpoints, position)
        parts += map(guards.forgiving, writers) if execution.on_full_disk == "go_on" else writers
        parts.append(callbacks.Report(config.epochs))
    fit = loop.fit if distribution.is_multi_worker(strategy) else _keras_fit
    begin = time.monotonic()
    with stop.listening():
        # A run that was stopped within an epoch first takes that epoch's remaining steps.
        for first, last in _legs(start_step, steps, config.epochs):
            fit(
                model,
                data.views(first, last),
                initial_epoch=first // steps,
                epochs=-(-last // steps),
                steps_per_epoch=min(steps, last - first),
                validation_data=validation if len(data.held_out) else None,
                callbacks=[*parts, stop],
            )
    return time.monotonic() - begin


def _keras_fit(model, dataset, **settings):
    model.fit(dataset, shuffle=False, verbose=0, **settings)  # the order is the dataset's business


def _measures(data, sample):
    """The callbacks that add to an epoch's logs."""
    parts = [callbacks.TaskLedger(sample)]
    bank, queries = data.probe_images(data.held_out)
    if len(bank) and len(queries):
        size, crop = data.two_views.size, data.config.views.eval_crop
        parts.append(callbacks.Neighbours(bank, queries, size, crop))
    return parts


def _writers(data, sample, run_dir, checkpoints, position):
    """The callbacks that write an epoch's files."""
    config = data.config
    return [
        callbacks.Sheets(sample, run_dir / "sheets", config.sheet_every, config.epochs),
        keras.callbacks.CSVLogger(run_dir / "log.csv", append=True),
        keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False),
        guards.SaveState(checkpoints, position, run_dir / "encoder.keras"),
    ]


def _legs(start_step, steps_per_epoch, epochs):
    """The stretches (first step, last step) to train: the rest of an epoch, then whole epochs."""
    boundary = -(-start_step // steps_per_epoch) * steps_per_epoch
    end = steps_per_epoch * epochs
    return [(a, b) for a, b in ((start_step, boundary), (boundary, end)) if a < b]


def _verdict(model, data):
    """Judges the encoder where there are labels to judge by."""
    test = data.held_out if data.test is None else data.test
    bank, queries = data.probe_images(test)
    if not len(bank) or not len(queries):
        return {}
    config = data.config
    verdict = judge(model.encoder, bank, queries, config.views.eval_crop, config.seed)
    return {"probe_test_split": "held out" if data.test is None else "test", **verdict}


def summary(results: dict, run_dir: str | os.PathLike) -> str:
    """Returns the results of a run for people, with where they lie and what to do next."""
    run_dir = pathlib.Path(run_dir)
    lines = ["", verdict_table(results), ""] if "linear_accuracy" in results else [""]
    return "\n".join(
        [
            *lines,
            f"Encoder:  {run_dir / 'encoder.keras'}",
            f"Results:  {run_dir / 'results.json'}",
            f"Pictures: {run_dir / 'sheets'}",
            f"Next:     tensorboard --logdir={run_dir / 'tensorboard'}",
            f"          encoder = sit_keras.load_encoder({str(run_dir)!r})   # in Python",
        ]
    )
