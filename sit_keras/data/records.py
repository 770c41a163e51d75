"""Images packed into a few large files: TFRecords, with an index of where each image lies.

A folder of records has `index.json`, and for each shard `NAME.tfrecord` and `NAME.npz`. A record is
a `tf.train.Example` with the usual names of features, so other programs read the shards too. Here
an image is read by its position in the shard, so that any order is as quick as that of the shard.
"""

import os
import pathlib
import typing
import zlib

import numpy as np

from sit_keras.config.files import read_json, written_whole
from sit_keras.data.finding import printable
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.record_address import RecordAddress

INDEX = "index.json"
FORMAT = 1
SPLITS = ("train", "test")
# Around the data of a record: its length with a checksum before it, and a checksum behind it.
_HEAD, _TAIL = 12, 4
_BLOCK = 2**22
_ARRAYS = "position", "length", "checksum", "label", "shard"
_MEND = "Pack the images again, or copy the folder again from where it was made."


class Packed(typing.NamedTuple):
    """One image to be packed.

    Args:
        data: bytes of a JPEG or PNG file.
        label: int. Of the class, or `NO_LABEL`.
        name: str. Its path below the folder that it comes from, or its number.
    """

    data: bytes
    label: int
    name: str


def write_shard(path: pathlib.Path, images: typing.Iterable[Packed]) -> dict[str, typing.Any]:
    """Writes a shard and its index, each whole or not at all, the index last.

    Args:
        path: of the shard, which ends in `.tfrecord`.
        images: what it gets, one after the other.

    Returns:
        What `index.json` says of it: its file, images, bytes and checksum.
    """
    import tensorflow as tf

    rows, size = [], 0
    with written_whole(path) as aside:
        with tf.io.TFRecordWriter(str(aside)) as writer:
            for image in images:
                record = _example(image)
                writer.write(record)
                position = size + _HEAD + record.index(image.data)
                rows.append((position, len(image.data), zlib.crc32(image.data), image.label))
                size += _HEAD + len(record) + _TAIL
        checksum = checksum_of(aside)
    position, length, checksums, labels = np.array(rows, np.int64).T
    with written_whole(path.with_suffix(".npz")) as aside, open(aside, "wb") as file:
        np.savez(
            file,
            position=position,
            length=length,
            checksum=checksums,
            label=labels,
            shard=np.array([size, checksum], np.int64),
        )
    return shard_entry(path)


def shard_entry(path: pathlib.Path) -> dict[str, typing.Any]:
    """Returns what `index.json` says of a shard that was written."""
    index = _read_index(path)
    size, checksum = index["shard"].tolist()
    return {
        "file": path.name,
        "images": len(index["position"]),
        "bytes": size,
        "checksum": f"{checksum:08x}",
    }


def checksum_of(path: pathlib.Path) -> int:
    """Returns the CRC-32 of a file."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def read_contents(path: str | os.PathLike) -> dict[str, typing.Any]:
    """Returns `index.json` of a folder of records.

    Raises:
        ValueError: if it is missing or broken.
    """
    folder = pathlib.Path(path).expanduser()
    if not (folder / INDEX).exists():
        raise ValueError(
            f"No records in {printable(str(folder))}: expected {INDEX} there, which sit-keras pack "
            "writes at its end. If it was interrupted, call it again."
        )
    needs = ("format", "dataset", "classes", "splits")
    contents = read_json(folder / INDEX, "the index of records", needs, _MEND)
    if contents["format"] != FORMAT:
        raise ValueError(
            f"{folder / INDEX} is of format {contents['format']}, and this version reads {FORMAT}: "
            "pack the images again."
        )
    return contents


def load_records(path: str | os.PathLike) -> tuple[ImageSet, ImageSet | None]:
    """Finds the images of a folder of records, without reading them.

    Args:
        path: the folder.

    Returns:
        The training images, and the test images, or None where there are none.

    Raises:
        ValueError: if there is no index, or a shard is missing or of another size.
    """
    contents, folder = read_contents(path), pathlib.Path(path).expanduser()

    def images(split):
        parts = [_read_shard(folder, shard) for shard in contents["splits"].get(split, [])]
        if not parts:
            return None
        items, labels, checksums = (np.concatenate(each) for each in zip(*parts, strict=True))
        return ImageSet(items, labels, tuple(contents["classes"]), checksums)

    train, test = map(images, SPLITS)
    if train is None:
        raise ValueError(f"{folder / INDEX} names no images to train on. {_MEND}")
    return train, test


def describe_records(train: ImageSet, test: ImageSet | None) -> str:
    """Returns a line about the images of a folder of records."""
    folder = os.path.dirname(str(train.items[0]))
    classes = f" in {len(train.class_names)} classes" if train.class_names else " without classes"
    tested = f", {len(test):,} to test" if test is not None else ""
    return f"{printable(folder)}: {len(train):,} images{classes}{tested}, packed"


def _read_shard(folder, entry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the addresses, labels and checksums of the images of a shard."""
    path = folder / str(entry.get("file"))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path}, a shard of records, cannot be opened. {_MEND}") from error
    if size != entry.get("bytes"):
        raise ValueError(
            f"{path}, a shard of records, has {size:,} bytes instead of {entry.get('bytes')}. "
            f"{_MEND}"
        )
    index = _read_index(path)
    rows = zip(*(index[name].tolist() for name in ("position", "length", "checksum")), strict=True)
    items = np.array([str(RecordAddress(str(path), *row)) for row in rows])
    return items, index["label"], index["checksum"].astype(np.uint32)


def _read_index(path) -> dict[str, np.ndarray]:
    """Returns the arrays of the index beside a shard."""
    path = path.with_suffix(".npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in _ARRAYS}
    except Exception as error:  # NumPy and zipfile raise many kinds for broken files
        raise ValueError(f"{path}, the index of a shard, cannot be read. {_MEND}") from error


def _example(image: Packed) -> bytes:
    import tensorflow as tf

    def texts(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[image.label]))
    kind = b"PNG" if image.data.startswith(b"\x89PNG") else b"JPEG"
    features = {
        "image/encoded": texts(image.data),
        "image/format": texts(kind),
        "image/filename": texts(os.fsencode(image.name)),
        **({"image/class/label": label} if image.label != NO_LABEL else {}),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)
