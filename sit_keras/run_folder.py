"""The folder of a run: who may write to it, what it says, and what to do when it is full."""

import contextlib
import json
import pathlib
import platform
import typing

import filelock
import keras
import numpy as np
import tensorflow as tf

from sit_keras._version import VERSION
from sit_keras.config import TASKS, RunConfig
from sit_keras.config_json import differences, load_json, save_json, write_text


def folder_name(dataset: str) -> str:
    """Returns the name of a data set as part of a folder's name."""
    return dataset.replace(":", "-").replace("/", "-")


def run_name(config: RunConfig) -> str:
    """Returns the name of a run's folder: what it trains on, and what an ablation changes."""
    parts = [folder_name(config.dataset), config.preset]
    fixed = config.weighting == "fixed"
    parts += ["+".join(config.tasks)] if fixed or set(config.tasks) != set(TASKS) else []
    parts += ["fixed"] if fixed else []
    return "-".join([*parts, f"seed{config.seed}"])


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


def refuse_another_run(run_dir: pathlib.Path, config: RunConfig, resume: bool) -> None:
    """Raises ValueError if the folder has a run of other settings, or one not to be resumed."""
    if not ((run_dir / "checkpoints").is_dir() or (run_dir / "results.json").exists()):
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


def finished_results(run_dir: pathlib.Path) -> dict | None:
    """Returns the results of a finished run, None of any other."""
    path = run_dir / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


@contextlib.contextmanager
def sole_run(run_dir: pathlib.Path) -> typing.Iterator[None]:
    """Makes the folder and keeps other processes out; the lock dies with the process."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(run_dir / ".lock", blocking=False)
        lock.acquire()
    except filelock.Timeout as error:
        raise ValueError(
            f"Another process is training in {run_dir}: wait for it, or give another --run_dir."
        ) from error
    except OSError as error:
        raise OSError(
            f"Cannot write to the run folder {run_dir} ({error.strerror}): give a writable place "
            "with --run_dir."
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_full_disk(error: Exception) -> bool:
    """Whether an error of Python or TensorFlow says that there is no space left."""
    return "No space left" in str(error)


@contextlib.contextmanager
def full_disk_explained(run_dir: pathlib.Path) -> typing.Iterator[None]:
    """Turns the many errors of a full disk into one sentence."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if not is_full_disk(error):
            raise
        raise OSError(
            f"No space left on the disk of {run_dir}. Complete files are kept: free some space and "
            "give the same command again to go on from the last epoch."
        ) from error


def forget_later_epochs(log: pathlib.Path, epochs_done: int) -> None:
    """Takes the epochs out of the log that were logged but not saved before a run was cut off."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)  # the first has the names
        write_text(log, "".join(lines[: epochs_done + 1]))


def read_log(log: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the columns of a log by their names.

    Args:
        log: pathlib.Path of a `log.csv`.

    Returns:
        Arrays (epochs,) float64, NaN where nothing was measured. A line that was cut off, by a full
        disk or because it is being written, is left out.

    Raises:
        ValueError: if no epoch was logged yet.
    """
    # The last part is what follows the last end of a line: nothing, or a line cut off.
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    names, rows = lines[0].split(",") if lines else [], []
    for line in lines[1:]:
        try:
            # The logger has columns for validation even where there is none.
            row = [float("nan" if value == "NA" else value) for value in line.split(",")]
        except ValueError:
            continue
        if len(row) == len(names):
            rows.append(row)
    if not rows:
        raise ValueError(f"No epoch is logged in {log} yet: let the first one end.")
    return dict(zip(names, np.array(rows).T, strict=True))


def last_losses(log: pathlib.Path) -> dict[str, float]:
    """Returns what the last whole line of a log says, by the names of its columns."""
    last = {name: float(values[-1]) for name, values in read_log(log).items()}
    return {name: value for name, value in last.items() if not np.isnan(value)}
