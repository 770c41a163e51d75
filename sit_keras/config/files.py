"""How this package writes its files and folders. Standard library only."""

import contextlib
import json
import os
import pathlib
import tempfile
import typing

# Begins the names of files that are being written; one that is left over may be removed.
UNFINISHED = ".writing-"
# A file of this name marks a folder of results, whose pictures are nobody's images.
MARK = ".sit-keras"
# Keras knows weights by this ending.
_WEIGHTS = ".weights.h5"
_MAX_JSON = 2**26  # bytes


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> typing.Iterator[pathlib.Path]:
    """Gives a file aside to write to, which gets its name when it is complete.

    Whoever reads `path` finds the old content or the new one, never a part of it. If writing
    fails, nothing is left.

    Args:
        path: of the file.

    Yields:
        The path of an empty file in the same folder, with the same ending.
    """
    path = pathlib.Path(path)
    # A name that nobody can guess, and a file that did not exist: no link is followed.
    ending = _WEIGHTS if path.name.endswith(_WEIGHTS) else path.suffix
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=ending, dir=path.parent)
    os.close(handle)
    aside = pathlib.Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())  # the file was made for its owner alone
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def make_own_folder(path: str | os.PathLike) -> pathlib.Path:
    """Makes a folder for results, with its parents, and marks it as such.

    A data set `folder:PATH` leaves out marked folders within it, so that the sheets and charts of a
    run are never trained on.

    Returns:
        The folder.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    mark = path / MARK
    if not mark.exists():
        mark.write_text("Results of SiT-Keras: no images to train on.\n")
    return path


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Removes the files of a folder that a killed process was writing.

    Only whoever keeps others out of the folder may call it.
    """
    for path in pathlib.Path(folder).glob(f"{UNFINISHED}*"):
        if path.is_file():
            path.unlink()


def read_json(
    path: str | os.PathLike, what: str, needs: typing.Sequence[str] = (), mend: str = ""
) -> dict[str, typing.Any]:
    """Reads a JSON file that this package has written.

    Args:
        path: of the file.
        what: str. What it should hold, for a message: "the settings of a run".
        needs: names of values that it must have.
        mend: str. A sentence on what to do about a broken one.

    Returns:
        Its values by name.

    Raises:
        ValueError: if it cannot be read, is no JSON object, or lacks a value or all of them.
    """
    path = pathlib.Path(path)
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"it has more than {_MAX_JSON:,} bytes")
        values = parse_json(path.read_bytes())
        if not values:
            raise ValueError("it is empty")
        missing = [name for name in needs if name not in values]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} should hold {what}, but {error}. {mend}".rstrip()) from error
    return values


def parse_json(data: bytes) -> dict[str, typing.Any]:
    """Returns the object that a JSON text holds; ValueError for anything else."""
    try:
        values = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"it is a JSON {type(values).__name__}, not an object")
    return values
