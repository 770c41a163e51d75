"""How this package writes its files and folders. Standard library only."""

import contextlib
import os
import pathlib
import tempfile
import typing

# Begins the names of files that are being written; one that is left over may be removed.
UNFINISHED = ".writing-"
# A file of this name marks a folder of results, whose pictures are nobody's images.
MARK = ".sit-keras"


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
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
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
