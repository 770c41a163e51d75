"""Writes networks to files and to preset folders, whole or not at all."""

import contextlib
import json
import os
import pathlib
import typing

import keras

from sit_keras.config.files import written_whole
from sit_keras.models.frozen import TRAINABLE
from sit_keras.models.keras_files import CONFIG, METADATA, WEIGHTS

Writer = typing.Callable[[pathlib.Path], typing.Any]


def save_keras(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes a model to a `.keras` file."""
    with written_whole(path) as aside:
        model.save(aside)


def save_to_preset(
    backbone: keras.Model, folder: str | os.PathLike, others: dict[str, Writer] | None = None
) -> None:
    """Writes a backbone to a folder, see `SiTBackbone.save_to_preset`.

    Args:
        backbone: SiTBackbone.
        folder: the folder. It gets all of the files, or keeps those that it has.
        others: by name, further files of the preset, and what writes each of them.
    """
    metadata = {"keras_version": keras.__version__, "parameter_count": backbone.count_params()}
    # In the order in which they get their names. Without the last one a folder is no preset, so
    # that nobody reads new weights by an old description.
    files = {
        WEIGHTS: backbone.save_weights,
        METADATA: json_writer(metadata),
        **(others or {}),
        CONFIG: json_writer(description(backbone, without=[TRAINABLE])),
    }
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for name in reversed(files):
            files[name](stack.enter_context(written_whole(folder / name)))
        (folder / CONFIG).unlink(missing_ok=True)


def description(model: keras.Model, without: typing.Sequence[str] = ()) -> dict[str, typing.Any]:
    """Returns the class and the arguments of a model as plain values, but for those `without`."""
    return {
        "module": type(model).__module__,
        "class_name": type(model).__name__,
        "registered_name": keras.saving.get_registered_name(type(model)),
        "config": {name: x for name, x in model.get_config().items() if name not in without},
    }


def json_writer(values: dict[str, typing.Any]) -> Writer:
    """Returns what writes plain values to a file, as indented JSON."""
    data = (json.dumps(values, indent=2) + "\n").encode()
    return lambda path: path.write_bytes(data)
