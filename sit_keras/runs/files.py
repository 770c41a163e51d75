"""Files of a run: written whole or not at all, locks, full disks."""

import contextlib
import json
import os
import pathlib
import typing

import filelock
import tensorflow as tf

from sit_keras.config.files import (
    make_own_folder,
    read_json,
    remove_unfinished,
    written_whole,
)
from sit_keras.config.serialization import from_dict, to_dict


def save_json(config: typing.Any, path: str | pathlib.Path, **extra) -> None:
    """Writes a config, and `extra` values beside it."""
    write_json(path, {**to_dict(config), **extra})


def write_json(path: str | os.PathLike, values: typing.Any) -> None:
    """Writes plain values as indented JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with written_whole(path) as aside:
        # Names of files need not be text; what is not, is escaped.
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def load_json(cls: type, path: str | pathlib.Path, extra: typing.Sequence[str] = ()) -> typing.Any:
    """Returns the config dataclass `cls` from a file of `save_json`, without its `extra` values.

    Raises:
        ValueError: if the file is broken or holds something else.
    """
    what = f"the values of a {cls.__name__}"
    values = read_json(path, what)
    try:
        return from_dict(cls, {name: x for name, x in values.items() if name not in extra})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} should hold {what}, but: {error}") from error


@contextlib.contextmanager
def sole_run(run_dir: pathlib.Path) -> typing.Iterator[None]:
    """Makes the folder and keeps other processes out; the lock dies with the process."""
    try:
        make_own_folder(run_dir)
        lock = filelock.FileLock(run_dir / ".lock", blocking=False)
        lock.acquire()
    except filelock.Timeout as error:
        raise ValueError(
            f"Another process is working in {run_dir}: wait for it, or give another folder."
        ) from error
    except OSError as error:
        raise OSError(
            f"Cannot write to the folder {run_dir} ({error.strerror}): give a writable one."
        ) from error
    try:
        remove_unfinished(run_dir)
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
