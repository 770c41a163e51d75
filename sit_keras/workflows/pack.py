"""Writes a data set as records: a few large files instead of many small ones."""

import concurrent.futures
import contextlib
import io
import os
import pathlib
import typing
import zlib

import numpy as np
from PIL import Image

from sit_keras.config.files import MARK, read_json
from sit_keras.config.progress import Progress
from sit_keras.data import records
from sit_keras.data.images import ImageSet
from sit_keras.data.jpeg_header import SIGNATURE
from sit_keras.data.reading import read_image
from sit_keras.data.records import Packed
from sit_keras.data.sources import load_source
from sit_keras.runs.files import sole_run, write_json
from sit_keras.runs.image_record import contents_of, names_of
from sit_keras.runs.shown_names import shown_dataset

PLAN = "plan.json"
SHARD_BYTES = 200 * 2**20
_CHUNK = 32  # images that are held in memory at once
_OTHER = "Give another folder."


def pack(
    source: str,
    output: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    strict: bool = False,
    value_range: tuple[float, float] | None = None,
) -> pathlib.Path:
    """Writes the images of a data set into shards, for `--dataset=records:FOLDER`.

    JPEG files are copied as they are; all other images become upright PNG of 8 bits. If it was
    interrupted, the same call goes on. If all is there, it is compared with its checksums.

    Args:
        source: str. A data set, such as `folder:my/photos` or `stl10`.
        output: folder of the records, new or begun by this function.
        data_dir, download, strict, value_range: as for `sit_keras.data.load_source`.

    Returns:
        The folder.

    Raises:
        ValueError: if the folder holds something else, or records that have changed.
    """
    found = load_source(source, data_dir, download, strict, value_range)
    splits = {"train": found.train} | ({"test": found.test} if found.test is not None else {})
    folder = pathlib.Path(output).expanduser()
    plan = {"images": _fingerprint(splits, value_range), "shard_bytes": SHARD_BYTES}
    _refuse_other_contents(folder, plan)
    if (folder / records.INDEX).exists():
        _compare(folder)
        print(f"All of it was packed before and is intact: {folder}")
        return folder
    with sole_run(folder):
        write_json(folder / PLAN, plan)
        _write(folder, splits, source, list(found.train.class_names))
    return folder


def _write(folder, splits: dict[str, ImageSet], source: str, classes: list[str]) -> None:
    """Writes the shards that are not there yet, and then what they hold."""
    entries = {name: _write_split(folder, name, images) for name, images in splits.items()}
    index = {
        "format": records.FORMAT,
        "dataset": shown_dataset(source),
        "classes": classes,
        "splits": entries,
    }
    write_json(folder / records.INDEX, index)
    shards = [shard for split in entries.values() for shard in split]
    count, size = (sum(shard[name] for shard in shards) for name in ("images", "bytes"))
    print(f"{count:,} images in {len(shards)} shards, {size / 1e9:.2f} GB: {folder}")


def _refuse_other_contents(folder, plan: dict[str, typing.Any]) -> None:
    """Raises ValueError unless the folder is new, or the same images were begun to be packed."""
    if (folder / PLAN).exists():
        if read_json(folder / PLAN, "what is packed here") != plan:
            raise ValueError(f"{folder} holds records of other images or settings. {_OTHER}")
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or names - {MARK, ".lock"}:
        raise ValueError(f"{folder} is not empty, and holds no records that were begun. {_OTHER}")


def _fingerprint(splits: dict[str, ImageSet], value_range) -> str:
    """Returns a text that changes with the images, their classes and how they are read."""
    checksum = zlib.crc32(repr(value_range and tuple(map(float, value_range))).encode())
    for name, images in splits.items():
        texts = "\0".join([name, *images.class_names, *names_of(images)])
        for part in (
            texts.encode("utf-8", "surrogateescape"),
            np.asarray(images.labels, np.int64).tobytes(),
            contents_of(images).tobytes(),
        ):
            checksum = zlib.crc32(part, checksum)
    return f"{checksum:08x}"


def _write_split(folder, split: str, images: ImageSet) -> list[dict[str, typing.Any]]:
    """Writes those shards of a split that are not there yet, and returns what is known of all."""
    shards, entries = _divided(images), []
    names = names_of(images)
    with Progress(split, len(images)) as progress:
        for number, rows in enumerate(shards):
            path = folder / f"{split}-{number:05}-of-{len(shards):05}.tfrecord"
            with contextlib.suppress(ValueError):  # it has no index yet
                entries.append(records.shard_entry(path))
                progress.skip(len(rows))
                continue
            entries.append(
                records.write_shard(path, _encoded(images, names, rows, progress.advance))
            )
    return entries


def _divided(images: ImageSet) -> list[np.ndarray]:
    """Returns the rows of each shard, of about the same size."""
    if images.in_memory:
        sizes = np.full(len(images), images.items[0].nbytes)
    else:
        sizes = np.array([_file_size(item) for item in images.items.tolist()])
    begins = np.cumsum(sizes) - sizes
    return np.split(np.arange(len(images)), np.flatnonzero(np.diff(begins // SHARD_BYTES)) + 1)


def _file_size(item: str) -> int:
    address = records.RecordAddress.parse(item)
    return address.length if address else os.stat(item).st_size


def _encoded(images: ImageSet, names, rows, said) -> typing.Iterator[Packed]:
    """Yields images as they are packed, a few at a time."""

    def encode(row):
        data = _encode(images.items[row], images.value_range)
        return Packed(data, int(images.labels[row]), names[row])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for begin in range(0, len(rows), _CHUNK):
            chunk = rows[begin : begin + _CHUNK]
            yield from pool.map(encode, chunk.tolist())
            said(len(chunk))


def _encode(item, value_range) -> bytes:
    if isinstance(item, np.ndarray):
        return _png(item)
    path = str(item)
    address = records.RecordAddress.parse(path)
    if address is not None:
        return address.read()
    with open(path, "rb") as file:
        start = file.read(len(SIGNATURE))
        if start == SIGNATURE:
            return start + file.read()
    return _png(read_image(path, value_range=value_range))


def _png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _compare(folder) -> None:
    """Raises ValueError if a shard has changed since it was written."""
    for shards in records.read_contents(folder)["splits"].values():
        for shard in shards:
            path = folder / shard["file"]
            if not path.exists() or f"{records.checksum_of(path):08x}" != shard["checksum"]:
                raise ValueError(
                    f"{path} is missing or has changed since it was written: remove the folder and "
                    "pack the images again, or copy the shard again."
                )
