"""Embeds all images of a folder or a data set into an index; goes on where it was stopped.

Shapes: N images.
"""

import os
import pathlib
import time
import typing

import numpy as np

from sit_keras.config.checks import check_value_range
from sit_keras.config.progress import Progress
from sit_keras.data.finding import printable
from sit_keras.evaluation.index import FORMAT, SIGNATURE_SIDE, Index, check_place, is_folder
from sit_keras.workflows.embedding import Embedder
from sit_keras.workflows.index_shards import IndexShards
from sit_keras.workflows.listed_images import Listed, contents_of, list_images, named_errors

SHARD_ROWS = 1024  # images, of which a command that is killed loses at most so many
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
        output: the file of the index: .npz, .csv or .parquet; or a folder (a path that ends in / or
            has no ending) for Parquet files of `SHARD_ROWS` images each.
        features: str. One of `FEATURES`.
        data_dir, download, value_range: as for `sit_keras.data.load_source`.

    Returns:
        Index. Files that cannot be read are in it, with `errors`.

    Raises:
        ValueError: if there is no image that can be read, no such encoder, or the output holds an
            index of another encoder.
        MissingPackage: if the format needs a package that is not installed.
    """
    in_folder, output = is_folder(output), check_place(output)
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
    begin, computed = time.monotonic(), 0
    with IndexShards(output, in_folder) as shards:
        is_begun = shards.is_begun
        known = _known(shards, about, output)
        if is_begun:
            print(f"Goes on: {len(known):,} images were embedded before the interruption.")
        with Progress("embeddings", len(listed.paths)) as progress:
            for first in range(0, len(listed.paths), SHARD_ROWS):
                rows = np.arange(first, min(first + SHARD_ROWS, len(listed.paths)))
                part = Listed(listed.paths[first : first + len(rows)], listed.images.take(rows))
                contents, errors = contents_of(part)
                new = _new_rows(contents, known)
                progress.skip(len(rows) - len(new))
                done = 0
                for vectors in embedder(part.images.take(new)) if len(new) else ():
                    for vector in zip(*vectors, strict=True):
                        known[contents[new[done]]] = vector
                        done += 1
                    progress.advance(len(vectors.errors))
                index = _index(part.paths, contents, errors, known, embedder.width, about)
                shards.add(index, is_known=not len(new))
                computed += len(new)
        index = shards.finish()
    if not index.ok.any():
        raise ValueError(
            f"No image of {printable(source)} is left. {named_errors(index, 'images')}"
        )
    _tell(index, computed, time.monotonic() - begin, output)
    return index


Vector = tuple[np.ndarray, np.ndarray, str]  # embedding, signature, error


def _known(shards: IndexShards, about: dict, output: pathlib.Path) -> dict[str, Vector]:
    """Returns what was embedded before, by the content of the images."""
    known = {}
    for index in shards.earlier():
        differing = [key for key in _SETTINGS if index.about[key] != about[key]]
        if differing:
            names = {"space": f"of another encoder ({index.about['encoder']})"}
            what = [names.get(key, f"of {key}={index.about[key]}") for key in differing]
            raise ValueError(
                f"{printable(str(output))} holds an index {', '.join(what)}, or the beginning of "
                "one: give another --output, or remove it."
            )
        for row in index.distinct().tolist():
            known[str(index.contents[row])] = index.embeddings[row], index.signatures[row], ""
    return known


def _new_rows(contents: np.ndarray, known: typing.Container[str]) -> np.ndarray:
    """Returns the first row of each content that is not known, in their order."""
    wanted, rows = np.unique(contents, return_index=True)
    rows = np.sort(rows[wanted != ""])
    return np.array([row for row in rows.tolist() if contents[row] not in known], int)


def _index(paths, contents, errors, known: dict[str, Vector], width: int, about) -> Index:
    """Returns the index of some images, by what is known of their contents."""
    nothing = np.zeros(width, np.float32), np.zeros(SIGNATURE_SIDE**2, np.uint8)
    rows = [
        known[content] if content else (*nothing, error)
        for content, error in zip(contents.tolist(), errors.tolist(), strict=True)
    ]
    embeddings, signatures, reasons = zip(*rows, strict=True)
    return Index(
        np.array(paths),
        np.array([str(content) for content in contents]),
        np.stack(embeddings),
        np.stack(signatures),
        np.array([str(reason) for reason in reasons]),
        about,
    )


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
