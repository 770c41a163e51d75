"""The files of a run on JAX: each is written whole or not at all. Needs no TensorFlow."""

import dataclasses
import json
import os
import pathlib
import platform
import typing
import zipfile
import zlib

import numpy as np

from sit_keras._version import VERSION
from sit_keras.config.files import read_json, remove_unfinished, written_whole
from sit_keras.config.serialization import differences, from_dict, to_dict
from sit_keras.config.settings import RunConfig

MAX_STATES = 2


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, values: dict[str, typing.Any]) -> None:
    """Writes plain values as indented JSON."""
    write_text(path, json.dumps(values, indent=2) + "\n")


@dataclasses.dataclass(frozen=True)
class PackedImages:
    """What a file of `pack_images.py` holds.

    Args:
        images: (N, H, W, 3) uint8.
        dataset: str. The name of the data set.
    """

    images: np.ndarray
    dataset: str

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PackedImages":
        """Reads the file; ValueError if it is another one."""
        arrays = _read_arrays(pathlib.Path(path))
        images = arrays.get("images")
        if images is None or "dataset" not in arrays or images.dtype != np.uint8:
            raise ValueError(f"{path} has no images: expected a file of pack_images.py.")
        return cls(images, str(arrays["dataset"]))

    def refuse_other_channels(self, channels: int) -> None:
        """Raises ValueError unless the images have these channels."""
        if self.images.shape[-1] != channels:
            raise ValueError(
                f"The packed images of {self.dataset} have {self.images.shape[-1]} channels, and "
                f"model.channels is {channels}: this loop is for RGB; train.py takes any number."
            )

    @property
    def fingerprint(self) -> int:
        """A number that changes with any pixel."""
        return zlib.crc32(np.ascontiguousarray(self.images))


class RunFolder:
    """The folder of a run: `config.json`, `log.csv`, and states from which it can be continued.

    A new one is made. The settings, the log and the results have the form that train.py gives them.

    Args:
        path: pathlib.Path.
        config: RunConfig.
        fingerprint: int. Of the images.
        versions: names and versions of what the run is made with.

    Raises:
        ValueError: if the folder holds a run of train.py, or one of other settings.
    """

    def __init__(
        self, path: pathlib.Path, config: RunConfig, fingerprint: int, versions: dict[str, str]
    ):
        self.path = path
        self.states = path / "states"
        self._fingerprint = fingerprint
        if (path / "checkpoints").exists():
            raise ValueError(f"{path} holds a run of train.py: give another --run_dir.")
        settings = path / "config.json"
        if settings.exists() and self._paths():  # before the first state, nothing would be lost
            changed = differences(_read_settings(settings), config)
            if changed:
                raise ValueError(
                    f"{path} holds a run with other settings ({'; '.join(changed)}): give another "
                    "--run_dir, or the same settings to go on with it."
                )
        self.states.mkdir(parents=True, exist_ok=True)
        for place in (path, self.states):
            remove_unfinished(place)  # a run is alone in its folder
        own = {"sit_keras": VERSION, "numpy": np.__version__, "python": platform.python_version()}
        write_json(settings, {**to_dict(config), "versions": {**own, **versions}})

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end."""
        path = self.path / "results.json"
        mend = "Remove that file and give the command again: the run goes on from its last state."
        return path.exists() and bool(read_json(path, "results of a run", ["losses"], mend))

    def save(self, step: int, state: typing.Sequence[typing.Sequence[typing.Any]]) -> None:
        """Writes a state after so many steps, and removes old ones and those that are damaged.

        Args:
            step: int.
            state: groups of arrays.
        """
        here = self.states / f"{step:08d}.npz"
        arrays = {
            f"{group}/{place}": np.asarray(value)
            for group, values in enumerate(state)
            for place, value in enumerate(values)
        }
        with written_whole(here) as aside:
            np.savez(aside, images=np.array(self._fingerprint), **arrays)
        paths = self._paths()
        end = paths.index(here) + 1  # a later state cannot have been read, or this were not here
        for other in (*paths[: max(0, end - MAX_STATES)], *paths[end:]):
            other.unlink()

    def restore(self, sizes: typing.Sequence[int]) -> tuple[int, list[list[np.ndarray]] | None]:
        """Reads the newest state that is whole.

        Args:
            sizes: how many arrays each group has.

        Returns:
            Its step and its groups of arrays; 0 and None if there is none.

        Raises:
            ValueError: if it was trained on other images.
        """
        for path in reversed(self._paths()):
            try:
                arrays = _read_arrays(path)
            except ValueError as error:
                print(f"Left out: {error}")
                continue
            if int(arrays["images"]) != self._fingerprint:
                raise ValueError(
                    f"{self.path} was trained on other images: give another --run_dir."
                )
            groups = [
                [arrays[f"{group}/{place}"] for place in range(size)]
                for group, size in enumerate(sizes)
            ]
            return int(path.stem), groups
        return 0, None

    def _paths(self):
        return sorted(self.states.glob("[0-9]*.npz"))


class Log:
    """`log.csv` of a run, one line an epoch.

    Args:
        path: pathlib.Path.
        epochs: int. How many epochs are done; those that were logged after them are taken out.
    """

    def __init__(self, path: pathlib.Path, epochs: int):
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._lines = lines[: epochs + 1]  # the first has the names

    def add(self, row: dict[str, float]) -> None:
        """Writes a line."""
        self._lines = self._lines or [",".join(row)]
        self._lines.append(",".join(f"{value:.7g}" for value in row.values()))
        write_text(self._path, "".join(f"{line}\n" for line in self._lines))

    def last(self) -> dict[str, float]:
        """Returns the last line by the names of its columns."""
        names, values = self._lines[0].split(","), map(float, self._lines[-1].split(","))
        return dict(zip(names, values, strict=True))


def _read_settings(path):
    values = read_json(path, "the settings of a run")
    try:
        return from_dict(RunConfig, {k: v for k, v in values.items() if k != "versions"})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} should hold the settings of a run, but: {error}") from error


def _read_arrays(path):
    try:
        with np.load(path) as file:
            return dict(file)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a .npz file: {error}") from error
