"""Steps whose results are kept in a folder, so that a repeated call does not compute them again."""

import json
import os
import pathlib
import typing
import zlib

import numpy as np

from sit_keras.config.serialization import differing
from sit_keras.data.images import ImageSet
from sit_keras.runs.files import read_json, sole_run, write_json
from sit_keras.runs.image_record import contents_of, names_of

# Settings that are fingerprints, which say nothing to a reader.
_IN_WORDS = {
    "train": "the training images have changed",
    "held_out": "the held-out images have changed",
    "test": "the test images have changed",
    "encoder": "the weights of the encoder have changed",
}


def cached_step(
    folder: str | os.PathLike, settings: dict, compute: typing.Callable[[pathlib.Path], dict]
) -> dict:
    """Returns the results that a folder holds, or computes them into it.

    Args:
        folder: gets `settings.json` before the step and `results.json` after it.
        settings: plain values that decide the results.
        compute: called with the folder; returns the results as plain values.

    Returns:
        The results.

    Raises:
        ValueError: if the folder holds results of other settings, or another process is working in
            it.
    """
    folder = pathlib.Path(folder)
    settings = json.loads(json.dumps(settings))
    path, finished = folder / "settings.json", folder / "results.json"
    mend = "Remove that file, or the folder, and give the command again."
    begun = finished.exists() or any((folder / part).is_dir() for part in ("checkpoints", "trials"))
    if path.exists() and begun:
        changed = differing(read_json(path, "the settings of these results", mend=mend), settings)
        if changed:
            changed = [_IN_WORDS.get(line.partition(":")[0], line) for line in changed]
            raise ValueError(
                f"{folder} holds results of other settings ({'; '.join(changed)}): give another "
                "--output, or remove that folder."
            )
    if finished.exists():
        return read_json(finished, "the results of these settings", mend=mend)
    with sole_run(folder):
        write_json(path, settings)
        results = compute(folder)
        write_json(finished, results)
    return results


def images_fingerprint(images: ImageSet) -> str:
    """Returns a short text that changes with any image, its name, label or class, or its reading.

    Names are relative to the folder that all files share, so that a moved folder stays the same.
    """
    names, classes = ("\0".join(texts) for texts in (names_of(images), images.class_names))
    read_as = (images.value_range, images.channels)
    usual = read_as == (None, 3)  # whose fingerprint is that of earlier versions
    texts = f"{names}\0\0{classes}{'' if usual else read_as}".encode("utf-8", "surrogateescape")
    return fingerprint([np.frombuffer(texts, np.uint8), contents_of(images), images.labels])


def fingerprint(arrays: typing.Iterable[np.ndarray]) -> str:
    """Returns a short text that changes with any number in the arrays."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return f"{crc:08x}"
