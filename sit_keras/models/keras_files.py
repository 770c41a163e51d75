"""Reads `.keras` and `.weights.h5` files that may come from anybody.

A file only says which of this package's networks to build and what its weights are. Nothing in it
is run, no other class is built, and no network is built before its size was compared with the
weights that the file really holds. So a file that is refused costs less than 100 MiB, and one
that is loaded less than twice its weights and 150 MiB.
"""

import collections
import contextlib
import errno
import math
import os
import pathlib
import shutil
import struct
import tempfile
import typing
import zipfile

import h5py
import keras

from sit_keras.config.files import parse_json

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
MAX_CONFIG = 2**21  # bytes; the names of many classes fit
MAX_WEIGHTS = 100_000  # datasets and groups of an HDF5 file
_OPTIMIZER = "optimizer"  # a model that was compiled has its state there; it is not loaded
# An optimizer's state takes two or three times the weights, HDF5 a few kB a weight.
_MAX_OVERHEAD, _MAX_HEADERS = 5, 2**26
_END = struct.Struct("<4s4x2x2xLL2x")  # of a zip file: mark, (counts), size of the list, its place
_MAX_LIST = 4096  # bytes of the list of members
_MAX_WORDS = 300  # characters of another library's message


class Plan(typing.NamedTuple):
    """A network that a file describes, before it is built.

    Args:
        config: the arguments that it is built with, checked.
        build: makes the network, with new weights.
        num_parameters: int. How many numbers its weights have.
    """

    config: dict[str, typing.Any]
    build: typing.Callable[[], keras.Model]
    num_parameters: int


@contextlib.contextmanager
def explained(path: str | os.PathLike, expected: str) -> typing.Iterator[None]:
    """Turns whatever a reader of a foreign file raises into a ValueError that names the file."""
    try:
        yield
    except Exception as error:  # a damaged file makes readers raise whatever there is
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        words = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        words = " ".join(words.split())
        words = words if len(words) <= _MAX_WORDS else f"{words[:_MAX_WORDS]}..."
        raise ValueError(f"{path} cannot be read as {expected}: {words}") from error


def load_keras(
    path: str | os.PathLike, expected: str, plan_of: typing.Callable[[dict], Plan]
) -> keras.Model:
    """Loads a model from a `.keras` file.

    Args:
        path: of the file.
        expected: str. What it should hold, for a message: "an encoder".
        plan_of: called with what the file's `config.json` says; ValueError refuses it.

    Returns:
        The model, with its weights and not compiled.

    Raises:
        ValueError: if the file is damaged, holds something else, or would take more memory than
            its weights do.
    """
    with (
        explained(path, expected),
        _opened(path) as archive,
        tempfile.TemporaryDirectory() as folder,
    ):
        plan = plan_of(parse_json(archive.read(CONFIG)))
        size, needed = archive.getinfo(WEIGHTS).file_size, 4 * plan.num_parameters
        if not needed / 2 <= size <= _MAX_OVERHEAD * needed + _MAX_HEADERS:
            raise ValueError(
                f"its {WEIGHTS} has {size:,} bytes, and the network that its {CONFIG} "
                f"describes needs about {needed:,}."
            )
        # HDF5 needs a file of its own to jump about in.
        weights = pathlib.Path(folder) / WEIGHTS
        with archive.open(WEIGHTS) as packed, weights.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 2**20)
        check_count(weights, plan.num_parameters)
        model = plan.build()
        fill(model, weights)
        return model


@contextlib.contextmanager
def _opened(path):
    with pathlib.Path(path).open("rb") as file:
        _check_list(file)
        with zipfile.ZipFile(file) as archive:
            _check_members(archive)
            yield archive


def read_config(path: pathlib.Path) -> dict[str, typing.Any]:
    """Returns what a JSON file, or that in a `.keras` file, says of a model.

    Raises:
        ValueError: if it is no JSON object.
    """
    if path.suffix == ".keras":
        with _opened(path) as archive:
            return parse_json(archive.read(CONFIG))
    if path.stat().st_size > MAX_CONFIG:
        raise ValueError(f"it has more than {MAX_CONFIG:,} bytes.")
    return parse_json(path.read_bytes())


def check_count(path: pathlib.Path, num_parameters: int) -> None:
    """Raises ValueError unless an HDF5 file holds so many numbers, stored one by one."""
    shapes = _stored_shapes(path)
    found = sum(map(math.prod, shapes))
    if found != num_parameters:
        raise ValueError(
            f"it holds {found:,} numbers in {len(shapes)} weights, and the network that {CONFIG} "
            f"describes has {num_parameters:,}."
        )


def fill(model: keras.Model, path: pathlib.Path) -> None:
    """Loads the weights of a model, all of them and no others.

    Args:
        model: keras.Model, built.
        path: of a `.weights.h5` file.

    Raises:
        ValueError: if the weights are others, or the file is no plain list of arrays.
    """
    stored = collections.Counter(_stored_shapes(path))
    expected = collections.Counter(tuple(weight.shape) for weight in model.weights)
    if stored != expected:
        raise ValueError(
            f"it has weights of the shapes {_few(stored - expected)} that the network lacks, and "
            f"lacks {_few(expected - stored)}."
        )
    model.load_weights(path)


def _few(shapes):
    names = [str(shape) for shape in shapes]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "") if names else "none"


def _check_list(file):
    """Looks at the end of a zip file, whose list of members is read whole and may be very long."""
    size = file.seek(0, os.SEEK_END)
    if size < _END.size:
        raise ValueError(f"it has {size} bytes, which is too short for a .keras file.")
    file.seek(size - _END.size)
    mark, length, _ = _END.unpack(file.read(_END.size))
    file.seek(max(0, size - _END.size - 20))
    is_long = file.read(4) == b"PK\x06\x07"  # another list counts, which only large files need
    if mark != b"PK\x05\x06" or length > _MAX_LIST or (is_long and size < 2**32):
        raise ValueError("it does not end as a .keras file: it is cut off, or no .keras file.")
    file.seek(0)


def _check_members(archive):
    names = sorted(archive.namelist())
    if names != sorted([CONFIG, METADATA, WEIGHTS]):
        raise ValueError(f"it holds the files {_few(names)}, expected {CONFIG} and {WEIGHTS}.")
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename} in it is compressed, which Keras never does.")
    if archive.getinfo(CONFIG).file_size > MAX_CONFIG:
        raise ValueError(f"its {CONFIG} has more than {MAX_CONFIG:,} bytes.")


def _stored_shapes(path):
    """Returns the shapes of the arrays of an HDF5 file, without reading one."""
    with h5py.File(path, "r") as file:
        datasets = list(_datasets(file))
        stored = sum(dataset.id.get_storage_size() for dataset in datasets)
        if stored > path.stat().st_size:
            raise ValueError("some of its weights lie at the same place of the file.")
        return [dataset.shape for dataset in datasets]


def _datasets(file):
    """Yields the arrays of an HDF5 file; ValueError if one is not simply stored in it."""
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            if where == f"/{_OPTIMIZER}":
                continue
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"it has a {type(link).__name__} at {where}, which may lead out.")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or len(seen) >= MAX_WEIGHTS:
                raise ValueError(f"it has too many links, such as {where}.")
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, where)
                yield item
            else:
                raise ValueError(f"it has a {type(item).__name__} at {where}.")


def _check_dataset(dataset, where):
    """Raises ValueError unless the numbers of an array stand in the file as they are."""
    layout, dtype = dataset.id.get_create_plist().get_layout(), dataset.dtype
    is_plain = layout in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not dataset.external
    is_number = (dtype.kind, dtype.itemsize) in (("f", 2), ("f", 4), ("f", 8), ("V", 2))
    if not is_plain or not is_number or dataset.shape is None:
        raise ValueError(
            f"its weight {where} is {dtype} in another form than Keras stores (compressed, in "
            "pieces, in another file, or no numbers)."
        )
    if dataset.id.get_storage_size() != math.prod(dataset.shape) * dtype.itemsize:
        raise ValueError(f"its weight {where} of shape {dataset.shape} is not stored in full.")
