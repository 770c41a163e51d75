"""The folder of an export's versions, `NAME/1`, `NAME/2`, as TF Serving expects it."""

import contextlib
import os
import pathlib
import shutil
import typing

import filelock
import tensorflow as tf

from sit_keras.config.choices import FORMATS
from sit_keras.config.files import UNFINISHED
from sit_keras.runs.files import is_full_disk
from sit_keras.runs.folder import folder_name, run_of

# What TensorFlow's readers take for a pattern in the path of a file.
_PATTERNS = "*?[\\"


def export_folder(run: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a run's versions: `exports/` and what tells the run from others.

    Args:
        run: as for `export`.
    """
    path = pathlib.Path(run).resolve()
    if path.suffix == ".keras":
        path = path.parent if path.stem == "encoder" else path.with_suffix("")
    home = run_of(path)  # a fine-tuning lies in `evaluation` in the folder of its run
    names = home.name, *path.relative_to(home).parts[1:]
    return pathlib.Path("exports") / folder_name("-".join(names))


def refuse_output(output: str | os.PathLike) -> None:
    """Raises ValueError if no export can be written to a folder, or none of it read again.

    Args:
        output: as for `export`. It need not be there.
    """
    path, advice = pathlib.Path(output), "give another --output (train: --run_dir or --noexport)."
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"The path {os.fsencode(path)!r} is not UTF-8 text: {advice}") from error
    patterns = [character for character in _PATTERNS if character in path.as_posix()]
    if patterns:
        raise ValueError(
            f"The path {path} has {' and '.join(patterns)} in it, which TensorFlow takes for a "
            f"pattern of other names when it reads an export: {advice}"
        )
    there = next(place for place in (path, *path.parents, pathlib.Path()) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        kind = "cannot be written" if there.is_dir() else "is a file"
        raise ValueError(f"{there} {kind}, so that no export fits into {path}: {advice}")


def has_version_of(run_dir: str | os.PathLike, output: str | os.PathLike) -> bool:
    """Whether a folder has a version that was written after a run had ended.

    The export at the end of `train` may have failed, or been cut off.
    """
    ended = (pathlib.Path(run_dir) / "results.json").stat().st_mtime_ns
    models = pathlib.Path(output).glob("*/saved_model.pb")
    return any(model.stat().st_mtime_ns >= ended for model in models)


def version_folder(output: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the folder of a format's versions: a server takes all it finds for its own.

    Args:
        output: the folder of an export.
        name: str. One of `FORMATS`.
    """
    return output if name == "savedmodel" else output / name


def _versions(output):
    """Returns the numbers of the versions in a folder."""
    names = [path.name for path in output.iterdir()] if output.is_dir() else []
    return [int(name) for name in names if name.isdecimal()]


@contextlib.contextmanager
def alone_in(output: pathlib.Path) -> typing.Iterator[None]:
    """Makes the folder of versions, keeps other exports waiting, and says if the disk is full."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(output / ".lock"):
            for left_over in output.glob(f"{UNFINISHED}*"):  # of an export that was killed
                if left_over.is_dir() and not left_over.is_symlink():
                    shutil.rmtree(left_over)
                else:
                    left_over.unlink()
            yield
    except (OSError, tf.errors.OpError) as error:
        if not is_full_disk(error):
            raise
        raise OSError(
            f"No space left on the disk of {output}. Nothing was written: free some space and "
            "export again."
        ) from error


def publish(models: dict[str, pathlib.Path], output: pathlib.Path) -> dict[str, pathlib.Path]:
    """Renames complete models to the next version that is free in each format, a number for all.

    Args:
        models: folders by their format, one of `FORMATS`.
        output: the folder of the export.

    Returns:
        The folders of the new version by their format.
    """
    places = {name: version_folder(output, name) for name in FORMATS}
    number = 1 + max((n for place in places.values() for n in _versions(place)), default=0)
    for name in models:
        places[name].mkdir(exist_ok=True)
        if (there := places[name] / str(number)).exists():
            raise OSError(f"{there} was made by another program meanwhile: export again.")
    found = {}
    for name, model in models.items():
        found[name] = places[name] / str(number)
        os.rename(model, found[name])
    return found
