"""The folder of a run: its name, its settings, and whether a run may go on in it."""

import dataclasses
import os
import pathlib
import platform
import re
import zlib

import keras
import numpy as np
import tensorflow as tf

from sit_keras._version import VERSION
from sit_keras.config.checks import TASKS
from sit_keras.config.recipes import RECIPES
from sit_keras.config.serialization import differences
from sit_keras.config.settings import RunConfig
from sit_keras.runs.files import load_json, save_json

_LONGEST_NAME = 120  # bytes, of the 255 that a name may have, with what is added to it


def folder_name(dataset: str) -> str:
    """Returns the name of a data set as part of a folder's name.

    It has letters, digits, dots, dashes and underscores alone: TensorFlow and shells take other
    signs, such as brackets, for patterns. A long name is cut, and tells itself from others by a
    checksum.
    """
    name = re.sub(r"[^\w.-]", "-", dataset)
    if len(os.fsencode(name)) > _LONGEST_NAME:
        checksum = zlib.crc32(dataset.encode("utf-8", "surrogateescape"))
        name = f"{os.fsencode(name)[:_LONGEST_NAME].decode('utf-8', 'ignore')}-{checksum:08x}"
    return name


def run_name(config: RunConfig) -> str:
    """Returns the name of a run's folder: what it trains on, and what an ablation changes."""
    parts = [folder_name(config.dataset), config.preset]
    parts += [config.recipe] if config.recipe != "paper" else []
    usual = RECIPES.get(config.recipe, {}).get("weighting", "uncertainty")
    other = config.weighting != usual
    parts += ["+".join(config.tasks)] if other or set(config.tasks) != set(TASKS) else []
    parts += [config.weighting] if other else []
    return "-".join([*parts, f"seed{config.seed}"])


def run_of(folder: pathlib.Path) -> pathlib.Path:
    """Returns the run or the encoder in whose `evaluation` a folder lies, or the folder itself."""
    for parent in folder.parents:
        home = parent.parent
        files = home / "config.json", home / "encoder.keras"
        if parent.name == "evaluation" and any(file.exists() for file in files):
            return home
    return folder


def refuse_run(output: str | os.PathLike) -> None:
    """Raises ValueError if a folder for other results is that of a run or of an encoder."""
    if any(pathlib.Path(output, name).exists() for name in ("config.json", "encoder.keras")):
        raise ValueError(f"{output} is the folder of a run or an encoder: give another --output.")


def versions() -> dict[str, str]:
    """Returns the versions of what a run is made with."""
    return {
        "sit_keras": VERSION,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def write_settings(run_dir: pathlib.Path, config: RunConfig) -> None:
    """Writes `config.json`: every setting, and the versions of the libraries."""
    save_json(config, run_dir / "config.json", versions=versions())


def read_settings(run_dir: pathlib.Path) -> RunConfig:
    """Returns the settings that `write_settings` wrote."""
    return load_json(RunConfig, run_dir / "config.json", extra=["versions"])


def begun_settings(run_dir: pathlib.Path) -> RunConfig | None:
    """Returns the settings of the run in a folder, None if nothing was trained there yet."""
    return read_settings(run_dir) if _has_begun(run_dir) else None


def _has_begun(run_dir):
    return (run_dir / "checkpoints").is_dir() or (run_dir / "results.json").exists()


def as_measured(run_dir: pathlib.Path, config: RunConfig) -> RunConfig:
    """Returns settings with the mean and the deviation that a begun run has measured, if it has."""
    begun = begun_settings(run_dir) if config.measures_channels else None
    if begun is None or begun.model.channels != config.model.channels:
        return config
    mean, std = begun.preprocessing.mean, begun.preprocessing.std
    preprocessing = dataclasses.replace(config.preprocessing, mean=mean, std=std)
    return dataclasses.replace(config, preprocessing=preprocessing)


def refuse_another_run(run_dir: pathlib.Path, config: RunConfig, resume: bool) -> None:
    """Raises ValueError if the folder has a run of other settings, or one not to be resumed."""
    if not _has_begun(run_dir):
        return  # nothing was trained yet, so nothing is lost
    if not resume:
        raise ValueError(
            f"{run_dir} holds a run, and --noresume asks for a new one: remove the folder, or give "
            "another --run_dir."
        )
    changed = differences(read_settings(run_dir), config)
    if changed:
        raise ValueError(
            f"{run_dir} holds a run with other settings ({'; '.join(changed)}): give another "
            "--run_dir, or the same settings to go on with it."
        )
