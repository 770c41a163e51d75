"""Images of a TFDS data set that differ in size: read at need, where they lie in its own shards.

Where each image begins is found out once for each shard, and remembered in the user's cache.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import typing
import zlib

import numpy as np

from sit_keras.config.files import written_whole
from sit_keras.config.progress import Progress
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.manifest import cache_folder, cores
from sit_keras.data.record_address import RecordAddress

# Around the data of a record: its length with a checksum before it, and a checksum behind it.
_HEAD, _TAIL = 12, 4
_FORMAT = 1  # of what is remembered
_COLUMNS = "position", "length", "checksum", "label"


def images_in_shards(
    builder: typing.Any, split: str, image: str, label: str | None, class_names: tuple[str, ...]
) -> ImageSet:
    """Returns the images of a split as addresses, without decoding them.

    Args:
        builder: of TFDS, prepared.
        split: str. In the words of TFDS.
        image, label: the names of the features; `label` is None where there are no classes.
        class_names: the names of the classes.

    Raises:
        ValueError: if the shards are no TFRecord files on this machine, or one is damaged.
    """
    parts = builder.info.splits[split].file_instructions
    for part in parts:
        if ".tfrecord" not in os.path.basename(part.filename) or not os.path.isfile(part.filename):
            raise ValueError(
                f"The images of tfds:{builder.info.full_name} are of different sizes and lie in "
                f"{part.filename}: expected TFRecord files on this machine. Write the images to "
                "files, and give folder:PATH."
            )

    def look(part):
        rows = _rows_of_shard(part.filename, image, label)
        end = len(rows) if part.take < 0 else part.skip + part.take
        return part.filename, rows[part.skip : end]

    items, found = [], []
    pool = concurrent.futures.ThreadPoolExecutor(cores())
    with pool, Progress("shards", len(parts)) as progress:
        for path, rows in pool.map(look, parts):
            items += [str(RecordAddress(path, *row[:3])) for row in rows.tolist()]
            found.append(rows)
            progress.advance()
    rows = np.concatenate(found)
    labels = np.where(rows[:, 3] < 0, NO_LABEL, rows[:, 3])
    return ImageSet(np.array(items), labels, class_names, rows[:, 2].astype(np.uint32))


def _rows_of_shard(path: str, image: str, label: str | None) -> np.ndarray:
    """Returns for each image its `_COLUMNS`, (N, 4) int64; read once and remembered."""
    state, cache = os.stat(path), cache_folder()
    text = repr((_FORMAT, os.path.realpath(path), state.st_size, state.st_mtime_ns, image, label))
    name = hashlib.sha256(os.fsencode(text)).hexdigest()[:32]
    memory = cache and cache / f"shard-{name}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # it is missing or damaged
        if memory:
            return np.load(memory, allow_pickle=False)
    rows = np.array(list(_read_rows(path, image, label)), np.int64).reshape(-1, len(_COLUMNS))
    with contextlib.suppress(OSError):  # there is no place for it
        if memory:
            memory.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(memory) as aside, open(aside, "wb") as file:
                np.save(file, rows)
    return rows


def _read_rows(path, image, label) -> typing.Iterator[tuple[int, int, int, int]]:
    import tensorflow as tf

    position = 0
    with open(path, "rb") as file:
        while head := file.read(_HEAD):
            size = int.from_bytes(head[:8], "little")
            record, tail = file.read(size), file.read(_TAIL)
            try:
                if len(record) + len(tail) != size + _TAIL:
                    raise ValueError("it is cut short")
                features = tf.train.Example.FromString(record).features.feature
                (data,) = features[image].bytes_list.value
                (number,) = features[label].int64_list.value if label else (NO_LABEL,)
            except Exception as error:  # protobuf raises its own kinds
                raise ValueError(
                    f"{path}, a shard of TFDS, is damaged at byte {position} or has no {image} "
                    "there: prepare the data set again."
                ) from error
            yield position + _HEAD + record.index(data), len(data), zlib.crc32(data), number
            position += _HEAD + size + _TAIL
