"""Reads and writes files of PyTorch weights, without running anything that is in them."""

import argparse
import functools
import os
import pathlib
import typing

import numpy as np

from sit_keras.config.extras import MissingPackage, import_package, install
from sit_keras.config.files import written_whole

# Before this release, files read with `weights_only` could write over memory (CVE-2026-24747), and
# before 2.6 run what is in them (CVE-2025-32434).
SAFE_TORCH = (2, 10)
# What wrappers put before the names of weights, from the outside in.
PREFIXES = ("_orig_mod.", "module.", "backbone.")


def read(path: str | os.PathLike) -> dict[str, typing.Any]:
    """Reads a `.pth`, `.pt` or `.safetensors` file.

    Args:
        path: of the file.

    Returns:
        The content, with arrays in place of tensors (those of fewer bits as float32).

    Raises:
        ValueError: if the file is not there, is damaged, or is a pickle that would do more than
            hold weights; nothing in it is run.
        MissingPackage: if the library that reads it is not installed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"No file at {path}: expected one of PyTorch or .safetensors (or a run).")
    load = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    try:
        return load(path)
    except MissingPackage:
        raise
    except Exception as error:  # a damaged file makes the readers raise whatever there is
        raise ValueError(
            f"{path} was refused, and nothing in it was run: it is damaged, or holds more than "
            f"weights. The reader says: {repr(error)[:200]}"
        ) from error


def read_state(
    path: str | os.PathLike, entry: str | None = None
) -> tuple[str | None, dict[str, np.ndarray]]:
    """Reads the weights of a network, by their names without what wrappers put before them.

    Args:
        path: of the file, see `read`.
        entry: str or None. The entry of the file to take, such as `model_ema`; None takes `model`
            or, where there are no entries, the file itself.

    Returns:
        The name of the entry, None for the file itself, and arrays by name.

    Raises:
        ValueError: as `read`, or if there are no such weights.
    """
    saved = read(path)
    if not isinstance(saved, dict):
        raise ValueError(f"{path} holds a {type(saved).__name__}, expected weights by name.")
    groups = [name for name, value in saved.items() if isinstance(value, dict) and _arrays(value)]
    if entry is None and not groups and _arrays(saved):
        return None, _without_prefixes(_arrays(saved))
    chosen = "model" if entry is None else entry
    if chosen not in groups:
        raise ValueError(
            f"{path} has no weights under {chosen!r}: choose with --weights from "
            f"{', '.join(map(str, groups)) or 'nothing, it holds none'}."
        )
    return chosen, _without_prefixes(_arrays(saved[chosen]))


def _arrays(values):
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _without_prefixes(state):
    for prefix in PREFIXES:
        # Heads may stand outside of the wrapper that holds the rest.
        if any(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def write(path: str | os.PathLike, state: dict[str, np.ndarray]) -> None:
    """Writes weights, whole or not at all; a `.pth` has them under `model`, as the authors' have.

    Args:
        path: of the file, `.pth` or `.safetensors`.
        state: arrays by name.

    Raises:
        MissingPackage: if the library that writes it is not installed.
    """
    path = pathlib.Path(path)
    state = {name: np.ascontiguousarray(array) for name, array in state.items()}
    if path.suffix == ".safetensors":
        save = functools.partial(import_package("safetensors.numpy").save_file, state)
    else:
        torch = import_package("torch")
        # From a copy: arrays of Keras are read-only, tensors are not.
        tensors = {name: torch.tensor(array) for name, array in state.items()}
        save = functools.partial(torch.save, {"model": tensors})
    with written_whole(path) as aside:
        save(aside)


def _read_safetensors(path):
    return _to_arrays(import_package("safetensors.numpy").load_file(path))


def _read_torch(path):
    torch = import_package("torch")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise MissingPackage(
            f"PyTorch {torch.__version__} cannot read files safely: {install('torch')} --upgrade"
        )
    # The authors' checkpoints keep the arguments of their command, which are plain values.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return _to_arrays(torch.load(path, map_location="cpu", weights_only=True))


def _to_arrays(value):
    if isinstance(value, dict):
        return {name: _to_arrays(each) for name, each in value.items()}
    if hasattr(value, "detach"):  # a tensor, of whatever precision
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind not in "iub":
        return value.astype(np.float32)  # also bfloat16, which NumPy itself does not know
    return value
