"""One pre-training run, from its settings to a folder of results."""

import contextlib
import dataclasses
import json
import os
import pathlib
import time

import keras
import tensorflow as tf

from sit_keras import callbacks, distribution
from sit_keras.checkpoint import Checkpoints
from sit_keras.config import RunConfig
from sit_keras.data import (
    TwoViews,
    count_steps,
    count_train_images,
    hold_out,
    load_source,
    step_views,
)
from sit_keras.evaluation import judge, verdict_table
from sit_keras.optimization import build_optimizer
from sit_keras.pretrain import SiTPretrainer
from sit_keras.run_folder import (
    forget_later_epochs,
    full_disk_explained,
    last_losses,
    refuse_another_run,
    sole_run,
    write_settings,
)

# Enough for a verdict on an encoder; the paper's protocols use every image.
MAX_PROBE_TRAIN, MAX_PROBE_TEST = 5_000, 2_000
MAX_VALIDATION_STEPS = 10


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
    steps = _steps_per_epoch(config, num_images - num_held_out)
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
    strategy: str = "auto",
) -> dict:
    """Pre-trains an encoder and judges it, writing everything to one folder.

    A folder with an unfinished run of the same settings is continued where it stopped; a
    finished one is returned as it is.

    Args:
        config: RunConfig.
        run_dir: the folder. Gets `config.json`, `encoder.keras`, `results.json`, `log.csv`,
            `tensorboard/`, `sheets/` and `checkpoints/`.
        data_dir, download: as for `sit_keras.data.load_source`.
        strategy: str. As for `distribution.make_strategy`; a run may go on under another one.

    Returns:
        The results, as in `results.json`.

    Raises:
        ValueError: for settings or data that do not fit, or a folder with another run in it.
        OSError: if the folder cannot be written.
        NonFiniteLoss: if a loss becomes NaN or infinite.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
    """
    run_dir = pathlib.Path(run_dir)
    refuse_another_run(run_dir, config)
    if (run_dir / "results.json").exists():
        print(f"{run_dir} is finished already; give another --run_dir or --seed to train anew.")
        return json.loads((run_dir / "results.json").read_text())

    source = load_source(config.dataset, data_dir, download, config.strict)
    train, held_out = hold_out(source.train, config.holdout, config.seed)
    steps_per_epoch = _steps_per_epoch(config, len(train))
    two_views = TwoViews(config.model.square_size, config.views, config.corruption, config.seed)
    with sole_run(run_dir), _precision(config.precision), full_disk_explained(run_dir):
        write_settings(run_dir, config)
        print(
            f"{config.dataset}: {len(train)} images to train on, {len(held_out)} held out; "
            f"{steps_per_epoch} steps of {config.batch_size} images an epoch, {config.epochs} "
            f"epochs.\n{config.preset}: {config.model.num_parameters:,} parameters at "
            f"{config.model.square_size} px."
        )
        if not tf.config.list_physical_devices("GPU") and _is_large(config.model):
            print(
                "No GPU was found, and this network wants one; the native presets cost a CPU less."
            )
        if config.weighting == "uncertainty":
            print("The loss adds log(alpha) of each task, so it can fall below zero.")
        with distribution.make_strategy(strategy).scope():
            model = _build(config, steps_per_epoch)
            checkpoints = Checkpoints(model, run_dir / "checkpoints")
        seconds = _fit(
            model, checkpoints, config, run_dir, train, held_out, two_views, steps_per_epoch
        )
        results = {
            "steps": steps_per_epoch * config.epochs,
            "train_seconds": round(seconds, 1),
            "losses": last_losses(run_dir / "log.csv"),
            **_verdict(model, config, source, train, held_out),
        }
        (run_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    return results


def _build(config, steps_per_epoch):
    replicas = distribution.num_replicas()
    if config.batch_size % replicas:
        raise ValueError(
            f"A batch of {config.batch_size} does not divide among {replicas} replicas: use a "
            f"multiple of {replicas}."
        )
    keras.utils.set_random_seed(config.seed)
    model = SiTPretrainer(
        config.model,
        tasks=config.tasks,
        weighting=config.weighting,
        task_weights=config.task_weights,
        temperature=config.temperature,
        negatives=config.negatives,
        clip_norm=config.clip_norm,
    )
    model.compile(build_optimizer(model, config, steps_per_epoch))
    return model


def _is_large(model):
    """Whether a CPU would need a good part of a second for each image."""
    rows, columns = model.grid
    return rows * columns * model.num_encoder_parameters > 1e9


def _steps_per_epoch(config, num_images):
    steps = count_steps(num_images, config.batch_size)
    return min(steps, config.steps_per_epoch or steps)


@contextlib.contextmanager
def _precision(policy):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _fit(model, checkpoints, config, run_dir, train, held_out, two_views, steps_per_epoch):
    """Trains to the end, from the last checkpoint if there is one; returns the seconds."""
    start_step = checkpoints.restore()
    if start_step:
        print(f"Going on from step {start_step} of {run_dir}.")
    forget_later_epochs(run_dir / "log.csv", start_step // steps_per_epoch)
    replicas = model.distribute_strategy.num_replicas_in_sync
    validation = _validation_views(config, train, held_out, two_views, replicas)
    sample = next(iter(validation))

    position = callbacks.Position(start_step)
    stop = callbacks.StopOnSignal(checkpoints, position)
    parts = [position, callbacks.StopOnNonFinite(position), callbacks.TaskLedger(sample)]
    bank, queries = _probe_images(config, train, held_out)
    if len(bank) and len(queries):
        parts.append(callbacks.Neighbours(bank, queries, two_views.size, config.views.eval_crop))
    parts += [
        callbacks.Sheets(sample, run_dir / "sheets", config.sheet_every, config.epochs),
        keras.callbacks.CSVLogger(run_dir / "log.csv", append=True),
        keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False),
        callbacks.SaveState(checkpoints, position, run_dir / "encoder.keras"),
        callbacks.Report(config.epochs),
        stop,
    ]
    begin = time.monotonic()
    with stop.listening():
        # A run that was stopped within an epoch first takes that epoch's remaining steps.
        for first, last in _legs(start_step, steps_per_epoch, config.epochs):
            model.fit(
                step_views(train, two_views, config.batch_size, first, last),
                initial_epoch=first // steps_per_epoch,
                epochs=-(-last // steps_per_epoch),
                steps_per_epoch=min(steps_per_epoch, last - first),
                validation_data=validation if len(held_out) else None,
                callbacks=parts,
                shuffle=False,  # the dataset's own business
                verbose=0,
            )
    return time.monotonic() - begin


def _legs(start_step, steps_per_epoch, epochs):
    """The stretches (first step, last step) to train: the rest of an epoch, then whole epochs."""
    boundary = -(-start_step // steps_per_epoch) * steps_per_epoch
    end = steps_per_epoch * epochs
    return [(a, b) for a, b in ((start_step, boundary), (boundary, end)) if a < b]


def _validation_views(config, train, held_out, two_views, replicas):
    """The same views every epoch, other ones than training's; of training images if none else."""
    watched = held_out if len(held_out) >= min(config.batch_size, 8 * replicas) else train
    batch_size = min(config.batch_size, len(watched)) // replicas * replicas
    steps = min(MAX_VALIDATION_STEPS, count_steps(len(watched), batch_size))
    two_views = dataclasses.replace(two_views, seed=two_views.seed + 1)
    return step_views(watched, two_views, batch_size, 0, steps, shuffle=False).cache()


def _probe_images(config, train, test):
    """The labelled images that a probe learns from and is tested on."""
    return (
        train.labelled().subset(MAX_PROBE_TRAIN, config.seed),
        test.labelled().subset(MAX_PROBE_TEST, config.seed),
    )


def _verdict(model, config, source, train, held_out):
    """Judges the encoder where there are labels to judge by."""
    split = "held out" if source.test is None else "test"
    bank, test = _probe_images(config, train, held_out if source.test is None else source.test)
    if not len(bank) or not len(test):
        return {}
    verdict = judge(model.encoder, bank, test, config.views.eval_crop, config.seed)
    return {"probe_test_split": split, **verdict}


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
