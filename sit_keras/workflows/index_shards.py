"""Writes an index shard by shard, so that what is finished is kept when the work is stopped."""

import contextlib
import hashlib
import pathlib
import typing

import filelock

from sit_keras.config.files import MARK, UNFINISHED, make_own_folder, remove_unfinished
from sit_keras.data.finding import printable
from sit_keras.evaluation.index import (
    CONTENTS,
    SHARDS,
    Index,
    holds_shards,
    joined,
    read_index,
    write_index,
)
from sit_keras.runs.files import write_json

_LOCK = ".lock"
_OWN = {MARK, _LOCK}  # what is in the folder beside shards and contents


class IndexShards:
    """The shards of an index, which one process at a time may write.

    The shards of a folder are Parquet files that stay there. Those of an index in one file are kept
    in the folder `NAME.unfinished` beside it until all are there. A shard has its name, in which is
    a fingerprint of the images, only when it is whole.

    Args:
        output: pathlib.Path of the index.
        in_folder: bool. Whether it is a folder.

    Raises:
        ValueError: on entering, if another process writes this index, or its folder holds something
            else.
    """

    def __init__(self, output: pathlib.Path, in_folder: bool):
        self._output, self._in_folder = output, in_folder
        self.folder = output if in_folder else output.with_name(f"{output.name}.unfinished")
        self._suffix = ".parquet" if in_folder else ".npz"
        self._parts: dict[str, Index] = {}

    @property
    def is_begun(self) -> bool:
        """Whether there are shards of an index that is not finished."""
        return any(self.folder.glob(SHARDS)) and not (self.folder / CONTENTS).exists()

    def __enter__(self) -> "typing.Self":
        self._refuse_other_contents()
        make_own_folder(self.folder)
        self._lock = filelock.FileLock(self.folder / _LOCK, blocking=False)
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise ValueError(
                f"Another process is writing {self.folder}: wait for it, or give another --output."
            ) from error
        remove_unfinished(self.folder)
        return self

    def __exit__(self, *exception):
        left = [path for path in self.folder.iterdir() if path.name not in _OWN]
        if not left:  # nothing was written
            with contextlib.suppress(OSError):
                for name in _OWN:
                    (self.folder / name).unlink(missing_ok=True)
                self.folder.rmdir()
        self._lock.release()

    def _refuse_other_contents(self):
        if not self.folder.exists() or holds_shards(self.folder):
            return
        if not self.folder.is_dir():
            raise ValueError(f"{printable(str(self.folder))} is a file: give another --output.")
        names = {path.name for path in self.folder.iterdir()} - _OWN
        written = {path.name for path in self.folder.glob(SHARDS)}
        written |= {path.name for path in self.folder.glob(f"{UNFINISHED}*")}
        others = sorted(names - written)
        if others:
            raise ValueError(
                f"The folder {printable(str(self.folder))} holds no index but other files, such as "
                f"{printable(others[0])}: give a new or empty folder as --output."
            )

    def earlier(self) -> typing.Iterator[Index]:
        """Yields what was written before: the finished index, and shards.

        A shard that cannot be read is named and removed, so that its images are embedded again.
        """
        if not self._in_folder and self._output.exists():
            yield read_index(self._output)
        for path in sorted(self.folder.glob(SHARDS)):
            try:
                index = read_index(path)
            except ValueError as error:
                print(f"A shard is written again: {error}")
                path.unlink()
            else:
                yield index

    def add(self, index: Index, is_known: bool) -> None:
        """Writes the next shard, unless it is there.

        Args:
            index: Index of its images.
            is_known: bool. Whether all of it is in `earlier`.
        """
        texts = [*index.paths.tolist(), *index.contents.tolist(), *index.errors.tolist()]
        digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()
        name = f"shard-{len(self._parts):05}-{digest[:12]}{self._suffix}"
        if not (is_known and (self.folder / name).exists()):
            write_index(index, self.folder / name)
        self._parts[name] = index

    def finish(self) -> Index:
        """Makes the shards that were added the index, removes others, and returns it.

        Without an image that can be read, there is no index, and an earlier one stays.
        """
        index = joined(list(self._parts.values()))
        kept = set()
        if index.ok.any() and self._in_folder:
            names = list(self._parts)
            write_json(self.folder / CONTENTS, {"about": index.about, "shards": names})
            kept = set(names)
        elif index.ok.any():
            write_index(index, self._output)
        elif (self.folder / CONTENTS).exists():
            return index
        for path in self.folder.glob(SHARDS):
            if path.name not in kept:
                path.unlink()
        return index
