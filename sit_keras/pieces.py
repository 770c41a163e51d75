"""Arrays as numbered files, each small enough to be carried by itself; and networks from them.

python -m sit_keras.pieces runs/from-another-machine      writes encoder.keras and network.keras
"""

import argparse
import hashlib
import json
import os
import pathlib
import sys

import keras
import numpy as np

from sit_keras.backbone import build_ssl_model
from sit_keras.config import RunConfig
from sit_keras.config_json import load_json, write_json

MAX_BYTES = 15 * 2**20
INDEX = "index.json"
# In a run folder that was written on another machine.
WEIGHTS = "weights"


def write(folder: str | os.PathLike, arrays: dict[str, np.ndarray], **about) -> None:
    """Writes arrays, one after the other and cut at `MAX_BYTES`, and an index at last.

    Args:
        folder: gets `0000.bin`, `0001.bin`, ... and `index.json`.
        arrays: by name, of any NumPy type.
        **about: plain values that the index keeps too.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stream = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    sums = []
    for number, start in enumerate(range(0, len(stream), MAX_BYTES)):
        piece = stream[start : start + MAX_BYTES]
        (folder / f"{number:04d}.bin").write_bytes(piece)
        sums.append(hashlib.sha256(piece).hexdigest())
    index = {
        "about": about,
        "arrays": [
            {"name": name, "dtype": array.dtype.str, "shape": array.shape}
            for name, array in arrays.items()
        ],
        "sha256": sums,
    }
    write_json(folder / INDEX, index)


def read_index(folder: str | os.PathLike) -> dict:
    """Returns what a folder of pieces says of itself: `about`, `arrays`, `sha256` of each piece.

    Raises:
        ValueError: if there is no such folder.
    """
    path = pathlib.Path(folder) / INDEX
    if not path.exists():
        raise ValueError(f"No {INDEX} in {folder}: expected a folder of numbered pieces.")
    return json.loads(path.read_text())


def read(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the arrays that `write` wrote.

    Raises:
        ValueError: if a piece is missing or is not the one that was written.
    """
    folder, index, pieces = pathlib.Path(folder), read_index(folder), []
    for number, expected in enumerate(index["sha256"]):
        path = folder / f"{number:04d}.bin"
        piece = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(piece).hexdigest() != expected:
            raise ValueError(f"{path} is missing or damaged: carry it over again.")
        pieces.append(piece)
    stream, arrays, start = b"".join(pieces), {}, 0
    for about in index["arrays"]:
        dtype, count = np.dtype(about["dtype"]), int(np.prod(about["shape"]))
        array = np.frombuffer(stream, dtype, count, start)
        arrays[about["name"]] = array.reshape(about["shape"])
        start += array.nbytes
    return arrays


def load_network(run: str | os.PathLike) -> keras.Model:
    """Returns the network of a run folder that has its weights in pieces.

    Args:
        run: a folder with `config.json` and `weights/`.

    Returns:
        As of `build_ssl_model`.

    Raises:
        ValueError: if something is missing, or the weights are another network's.
    """
    run = pathlib.Path(run)
    if not (run / "config.json").exists():
        raise ValueError(f"No config.json in {run}: expected a run folder with {WEIGHTS}/ in it.")
    config = load_json(RunConfig, run / "config.json", extra=["versions"])
    arrays, network = read(run / WEIGHTS), build_ssl_model(config.model)
    wanted = {weight.path: tuple(weight.shape) for weight in network.weights}
    found = {name: array.shape for name, array in arrays.items()}
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if wrong:
        raise ValueError(
            f"The pieces in {run / WEIGHTS} are not those of its config.json: {len(wrong)} of "
            f"{len(wanted)} weights do not fit, such as {', '.join(wrong[:4])}."
        )
    for weight in network.weights:
        weight.assign(arrays[weight.path])
    return network


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m sit_keras.pieces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help=f"a run folder with config.json and {WEIGHTS}/")
    run = pathlib.Path(parser.parse_args(argv).run)
    if (run / "encoder.keras").exists():
        raise ValueError(f"{run} has an encoder.keras already: move it away first.")
    network = load_network(run)
    network.save(run / "network.keras")
    network.get_layer("sit_encoder").save(run / "encoder.keras")
    print(f"Encoder: {run / 'encoder.keras'}\nNext:    python evaluate.py --run={run}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"sit_keras.pieces: {error}")
