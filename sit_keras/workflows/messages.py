"""The texts about a run: what it would do, what it begins with, and its results."""

import os
import pathlib
import shlex
import shutil
import textwrap

import tensorflow as tf

from sit_keras.config.settings import RunConfig
from sit_keras.data.sources import survey_source
from sit_keras.evaluation.baselines import baselines_table
from sit_keras.plots.colours import SHOWN_CHANNELS
from sit_keras.runs.data import RunData, steps_per_epoch

WIDTH = 100  # columns of a text


def describe(
    config: RunConfig, data_dir: str | os.PathLike | None = None, download: bool = False
) -> dict:
    """Returns what follows from the settings of a run, without building the network.

    Args:
        config: RunConfig.
        data_dir, download: as for `sit_keras.data.load_source`.

    Returns:
        A dict of the numbers of images, steps and parameters, and the peak learning rate; of a
        folder also what was found in it.
    """
    survey = survey_source(
        config.dataset,
        data_dir,
        download,
        config.value_range,
        channels=config.model.channels,
    )
    num_images, found = survey.images, survey.text
    num_held_out = round(config.holdout * (survey.labelled or num_images))
    steps = steps_per_epoch(config, num_images - num_held_out)
    return {
        **({"found": found} if found else {}),
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
    """Prints the images, the steps and the network of a run that begins, and what to expect."""
    config = data.config
    print(
        f"{config.dataset}: {len(data.train)} images to train on, {len(data.held_out)} held out; "
        f"{data.steps_per_epoch} steps of {config.batch_size} images an epoch, {config.epochs} "
        f"epochs.\n{config.preset}: {config.model.num_parameters:,} parameters at "
        f"{config.model.image_size} px."
    )
    if not data.can_validate:
        print(
            f"{len(data.held_out) or 'No'} images are held out, and a validation needs "
            f"{data.needed_to_validate} (--holdout): there is no validation curve, and sheets and "
            "gradient shares are of training images."
        )
    if not tf.config.list_physical_devices("GPU") and _is_large(config.model):
        print(
            "No GPU was found, and a step of this network takes long on a CPU: the native presets "
            "are faster."
        )
    warmup = config.effective_warmup_epochs
    if warmup < config.warmup_epochs:
        print(
            f"The warm-up is shortened to {warmup} of the {config.epochs} epochs, from "
            f"{config.warmup_epochs}."
        )
    if config.model.channels != 3:
        print(_about_channels(config))
    if config.weighting == "uncertainty":
        print("The loss contains log(alpha) of each task, so it can be negative.")


def summary(results: dict, run_dir: str | os.PathLike) -> str:
    """Returns the results of a run as text, with their files and the commands to go on with.

    Args:
        results: as of `pretrain`.
        run_dir: the folder of the run.
    """
    run_dir = pathlib.Path(run_dir)
    quoted = shlex.quote(str(run_dir))
    lines = ["", baselines_table(results), ""] if "linear_accuracy" in results else [""]
    answer = results.get("answer", ())
    lines += [textwrap.fill(each, WIDTH, break_on_hyphens=False) for each in answer]
    lines += [""] if answer else []
    return "\n".join(
        [
            *lines,
            f"Encoder:  {run_dir / 'encoder.keras'}",
            f"Results:  {run_dir / 'results.json'}",
            f"Pictures: {run_dir / 'sheets'}",
            f"Next:     {typed('report')} {quoted}",
            f"          tensorboard --logdir={shlex.quote(str(run_dir / 'tensorboard'))}",
            f"          {typed('evaluate')} --run={quoted}",
            f"          encoder = sit_keras.SiTBackbone.from_preset({str(run_dir)!r})  # Python",
        ]
    )


def typed(verb: str) -> str:
    """Returns how a command is typed: with `sit-keras` if it is installed, else with Python.

    Args:
        verb: str. The command, such as `train`.
    """
    return f"{'sit-keras' if shutil.which('sit-keras') else 'python -m sit_keras'} {verb}"


def _about_channels(config):
    """What is done otherwise where images are not RGB."""
    channels, views = config.model.channels, config.views
    of_colours = {"saturation": views.saturation, "hue": views.hue,
                  "greyscale_probability": views.greyscale_probability}  # fmt: skip
    left_out = [f"views.{name}={value:g}" for name, value in of_colours.items() if value]
    plural = "" if channels == 1 else "s"
    text = f"Images have {channels} channel{plural}."
    if left_out:
        text += f" Left out, as for three alone: {', '.join(left_out)}."
    if channels != 1:
        text += f" Pictures show {SHOWN_CHANNELS}."
    return text


def _is_large(model):
    """Whether a CPU would need a large part of a second for each image."""
    rows, columns = model.grid
    return rows * columns * model.num_encoder_parameters > 1e9
