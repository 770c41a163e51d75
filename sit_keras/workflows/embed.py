"""Embeds all images of a folder or a data set into an index; goes on where it was stopped.

Shapes: N images.
"""

import contextlib
import os
import pathlib
import shutil
import time
import typing

import filelock
import numpy as np

from sit_keras.config.checks import check_value_range
from sit_keras.config.files import make_own_folder, read_json, remove_unfinished, written_whole
from sit_keras.config.progress import Progress
from sit_keras.data.finding import printable
from sit_keras.evaluation.index import FORMAT, Index, check_suffix, read_index, write_index
from sit_keras.runs.files import write_json
from sit_keras.workflows.embedding import Embedder, Vectors
from sit_keras.workflows.listed_images import contents_of, list_images, named_errors

SAVE_SECONDS = 10.0  # of work that a killed command loses at most
_ABOUT = "about.json"
_SETTINGS = ("space", "features", "value_range")  # that decide the embeddings


def embed(
    source: str,
    encoder: str | os.PathLike,
    output: str | os.PathLike,
    features: str = "tokens",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    value_range: tuple[float, float] | None = None,
) -> Index:
    """Computes the embedding of every image, and writes an index.

    Equal files are computed once and listed each. If the index exists, only images that are new in
    it are computed. If it was interrupted, the same call goes on.

    Args:
        source: str. A folder, with or without `folder:` before it, or a data set as for
            `sit_keras.data.load_source`, of which both splits are taken.
        encoder: a run folder or whatever else `SiTBackbone.from_preset` takes.
        output: the file of the index: .npz, .csv or .parquet.
        features: str. One of `FEATURES`.
        data_dir, download, value_range: as for `sit_keras.data.load_source`.

    Returns:
        Index. Files that cannot be read are in it, with `errors`.

    Raises:
        ValueError: if there is no image that can be read, no such encoder, or the output holds an
            index of another encoder.
        MissingPackage: if the format needs a package that is not installed.
    """
    output = check_suffix(output)
    check_value_range(value_range)
    embedder = Embedder(encoder, features)
    listed = list_images(source, data_dir, download, value_range, embedder.channels)
    about = {
        "format": FORMAT,
        "encoder": os.fspath(encoder),
        "space": embedder.space,
        "features": features,
        "source": source,
        "working_folder": os.getcwd(),
        "value_range": value_range and list(value_range),
        "channels": embedder.channels,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    contents, errors = contents_of(listed)
    known = _vectors_of(output, about)
    with _Parts(output, about) as parts:
        kept = len(parts.vectors)
        known |= parts.vectors
        wanted, rows = np.unique(contents, return_index=True)
        rows = np.sort(rows[(wanted != "")])  # in the order of the images
        new = [row for row in rows.tolist() if contents[row] not in known]
        if kept:
            print(f"Goes on: {kept:,} images were embedded before the interruption.")
        done = 0
        with Progress("embeddings", len(new)) as progress:
            for vectors in embedder(listed.images.take(np.array(new, int))):
                for vector in _rows(vectors):
                    content = contents[new[done]]
                    known[content] = parts.vectors[content] = vector
                    done += 1
                parts.save()
                progress.advance(len(vectors.errors))
        index = _index(listed.paths, contents, errors, known, about)
        seconds = time.monotonic() - begin
        if index.ok.any():
            write_index(index, output)
        parts.remove()
    if not index.ok.any():
        raise ValueError(
            f"No image of {printable(source)} is left. {named_errors(index, 'images')}"
        )
    _tell(index, len(new), seconds, output)
    return index


Vector = tuple[np.ndarray, np.ndarray, str]  # embedding, signature, error


def _rows(vectors: Vectors) -> typing.Iterator[Vector]:
    return zip(vectors.embeddings, vectors.signatures, vectors.errors.tolist(), strict=True)


def _vectors_of(output: pathlib.Path, about: dict) -> dict[str, Vector]:
    """Returns what an earlier index holds, by the content of the images."""
    if not output.exists():
        return {}
    index = read_index(output)
    differing = [key for key in _SETTINGS if index.about[key] != about[key]]
    if differing:
        names = {"space": f"of another encoder ({index.about['encoder']})"}
        what = [names.get(key, f"of {key}={index.about[key]}") for key in differing]
        raise ValueError(
            f"{printable(str(output))} holds an index {', '.join(what)}: give another --output, or "
            "remove that file."
        )
    return {
        str(index.contents[row]): (index.embeddings[row], index.signatures[row], "")
        for row in index.distinct().tolist()
    }


class _Parts:
    """The folder beside an index in which finished batches are kept until all are there.

    Args:
        output: the file of the index.
        about: what the index will say of itself.

    Attributes:
        vectors: by content, what is kept.
    """

    def __init__(self, output: pathlib.Path, about: dict):
        self.folder = output.with_name(f"{output.name}.unfinished")
        self._about = {key: about[key] for key in _SETTINGS}
        self.vectors: dict[str, Vector] = {}

    def __enter__(self):
        make_own_folder(self.folder)
        self._lock = filelock.FileLock(self.folder / ".lock", blocking=False)
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise ValueError(
                f"Another process is writing {self.folder}: wait for it, or give another --output."
            ) from error
        try:
            remove_unfinished(self.folder)
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception):
        try:
            if self.folder.exists():
                self.save(at_once=True)
        finally:
            self._lock.release()
        with contextlib.suppress(OSError):  # which is left over after `remove`
            if not self.vectors:
                shutil.rmtree(self.folder)

    def _read(self):
        path = self.folder / _ABOUT
        if path.exists() and read_json(path, "what is embedded here") != self._about:
            raise ValueError(
                f"{self.folder} holds unfinished embeddings of other settings: give the same "
                "--encoder, --features and --value_range again, or remove that folder."
            )
        write_json(path, self._about)
        self._parts = sorted(self.folder.glob("part-*.npz"))
        for part in self._parts:
            with np.load(part, allow_pickle=False) as file:
                columns = (file[name] for name in ("embeddings", "signatures", "errors"))
                rows = zip(*columns, strict=True)
                self.vectors.update(zip(file["contents"].tolist(), rows, strict=True))
        self._saved, self._time = len(self.vectors), time.monotonic()

    def save(self, at_once: bool = False):
        """Writes what is new, unless that was done a short time ago."""
        if not at_once and time.monotonic() - self._time < SAVE_SECONDS:
            return
        new = list(self.vectors.items())[self._saved :]
        if not new:
            return
        contents, rows = zip(*new, strict=True)
        embeddings, signatures, errors = (np.array(column) for column in zip(*rows, strict=True))
        path = self.folder / f"part-{len(self._parts):06}.npz"
        with written_whole(path) as aside, open(aside, "wb") as file:
            np.savez(file, contents=np.array(contents), embeddings=embeddings,
                     signatures=signatures, errors=errors)  # fmt: skip
        self._parts.append(path)
        self._saved, self._time = len(self.vectors), time.monotonic()

    def remove(self):
        """Forgets all of it, once the index is there."""
        self.vectors, self._saved = {}, 0


def _index(paths, contents, errors, known: dict[str, Vector], about) -> Index:
    """Returns the index of all images, by what is known of their contents."""
    width = next((len(embedding) for embedding, _, _ in known.values()), 0)
    size = next((len(signature) for _, signature, _ in known.values()), 0)
    nothing = (np.zeros(width, np.float32), np.zeros(size, np.uint8))
    rows = [
        known[content] if content else (*nothing, error)
        for content, error in zip(contents.tolist(), errors.tolist(), strict=True)
    ]
    embeddings, signatures, reasons = zip(*rows, strict=True)
    reasons = np.array([str(reason) for reason in reasons])
    texts = np.array(paths), np.array([str(content) for content in contents])
    return Index(*texts, np.stack(embeddings), np.stack(signatures), reasons, about)


def _tell(index: Index, computed: int, seconds: float, output: pathlib.Path) -> None:
    """Prints what the index holds and what could not be read."""
    readable = int(index.ok.sum())
    copies = readable - len(index.distinct())
    if readable < len(index):
        print(named_errors(index, "images"))
    print(
        f"{readable:,} images of {index.embeddings.shape[1]} features ({index.about['features']}), "
        f"{copies:,} of them copies of another by content; {computed:,} were computed, at "
        f"{computed / max(seconds, 1e-9):,.1f} images/s."
    )
    print(f"Index: {printable(str(output))}")
