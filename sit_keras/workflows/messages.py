"""What a run says of itself: what it would do, what begins, what came out."""

import os
import pathlib
import shlex

import tensorflow as tf

from sit_keras.config.settings import RunConfig
from sit_keras.data.sources import count_train_images
from sit_keras.evaluation.baselines import verdict_table
from sit_keras.runs.data import RunData, steps_per_epoch


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


def announce(data: RunData) -> None:
    """Prints what is about to begin."""
    config = data.config
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


def summary(results: dict, run_dir: str | os.PathLike) -> str:
    """Returns the results of a run for people, with where they lie and what to do next."""
    run_dir = pathlib.Path(run_dir)
    quoted = shlex.quote(str(run_dir))
    lines = ["", verdict_table(results), ""] if "linear_accuracy" in results else [""]
    return "\n".join(
        [
            *lines,
            f"Encoder:  {run_dir / 'encoder.keras'}",
            f"Results:  {run_dir / 'results.json'}",
            f"Pictures: {run_dir / 'sheets'}",
            f"Next:     python -m sit_keras.visualize {quoted}",
            f"          tensorboard --logdir={shlex.quote(str(run_dir / 'tensorboard'))}",
            f"          python evaluate.py --run={quoted}",
            f"          encoder = sit_keras.load_encoder({str(run_dir)!r})   # in Python",
        ]
    )


def _is_large(model):
    """Whether a CPU would need a good part of a second for each image."""
    rows, columns = model.grid
    return rows * columns * model.num_encoder_parameters > 1e9
