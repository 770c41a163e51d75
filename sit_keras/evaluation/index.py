"""An index: the embeddings of images, and how they are kept in a file or a folder of shards.

Shapes: N images, E features, S pixels of a signature.
"""

import csv
import dataclasses
import json
import os
import pathlib
import re
import typing

import numpy as np

from sit_keras.config.extras import MissingPackage, import_package
from sit_keras.config.files import parse_json, read_json, written_whole
from sit_keras.data.finding import printable

SUFFIXES = (".npz", ".csv", ".parquet")
# Of a folder: which of its files are the shards of the index, and `about`.
CONTENTS = "index.json"
SHARDS = "shard-*"
SIGNATURE_SIDE = 16
FORMAT = 1
_ABOUT = ("format", "encoder", "space", "features", "source", "working_folder", "value_range")
_MAKE = "Make it with sit-keras embed."
_SHARD = re.compile(r"shard-[\w-]+\.parquet")


@dataclasses.dataclass(frozen=True)
class Index:
    """The embeddings of images, one row for each image.

    Args:
        paths: (N,) str. A file, a record, or `SOURCE#SPLIT/NUMBER` for an image in memory.
        contents: (N,) str. SHA-256 of the bytes of the file, or of the pixels of an image in
            memory; empty where the file could not be opened.
        embeddings: (N, E) float32. Zeros where the image could not be read.
        signatures: (N, S) uint8. The image as the encoder is given it, in grey and reduced to 16 x
            16 pixels, by rows.
        errors: (N,) str. Why an image could not be read, or empty.
        about: plain values: `encoder` as it was given, `space`, a fingerprint of the encoder and
            its preprocessing, `features`, `source`, `working_folder`, in which relative paths
            begin, and `value_range`.
    """

    paths: np.ndarray
    contents: np.ndarray
    embeddings: np.ndarray
    signatures: np.ndarray
    errors: np.ndarray
    about: dict[str, typing.Any]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def ok(self) -> np.ndarray:
        """(N,) bool. Whether each image could be read."""
        return self.errors == ""

    def distinct(self) -> np.ndarray:
        """Returns the first row of each content that could be read, in their order."""
        rows = np.flatnonzero(self.ok)
        _, first = np.unique(self.contents[rows], return_index=True)
        return rows[np.sort(first)]

    def take(self, rows: np.ndarray) -> "Index":
        """Returns the index of some of the images."""
        columns = [field.name for field in dataclasses.fields(self) if field.name != "about"]
        return Index(**{name: getattr(self, name)[rows] for name in columns}, about=self.about)

    def require_same_space(self, other: dict[str, typing.Any], name: str) -> None:
        """Raises ValueError if other embeddings come from another encoder or other features."""
        for key, what in (("space", "encoder"), ("features", "features")):
            if self.about[key] != other[key]:
                shown = "encoder" if key == "space" else "features"
                raise ValueError(
                    f"{name} has embeddings of another {what} ({other[shown]}) than the index "
                    f"({self.about[shown]}), so they cannot be compared: embed both with the same "
                    "--encoder and --features."
                )


def joined(parts: typing.Sequence[Index]) -> Index:
    """Returns one index with the rows of all parts, which is about what the first one is about."""
    columns = [field.name for field in dataclasses.fields(Index) if field.name != "about"]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    return Index(**arrays, about=parts[0].about)


def is_folder(path: str | os.PathLike) -> bool:
    """Whether a path of an index means a folder: one that exists, no ending, or / at its end."""
    text = os.path.expanduser(os.fspath(path))
    return os.path.isdir(text) or text.endswith(("/", os.sep)) or not os.path.splitext(text)[1]


def is_index(path: str | os.PathLike) -> bool:
    """Whether a path names an index, by its ending or by what the folder has."""
    text = os.path.expanduser(os.fspath(path))
    return text.endswith(SUFFIXES) or holds_shards(text)


def holds_shards(folder: str | os.PathLike) -> bool:
    """Whether a folder has an index of shards; others may have a file of the same name."""
    try:
        read_json(pathlib.Path(folder) / CONTENTS, "an index", needs=("about", "shards"))
    except ValueError:
        return False
    return True


def check_place(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of an index, a file or a folder of Parquet files.

    Raises:
        ValueError: if its ending names no format of an index.
        MissingPackage: if its format needs a package that is not installed.
    """
    place = pathlib.Path(path).expanduser()
    in_folder = is_folder(path)
    if not in_folder and place.suffix not in SUFFIXES:
        raise ValueError(
            f"The format of an index follows from its ending, one of {', '.join(SUFFIXES)}, or / "
            f"for a folder of Parquet files; received {printable(str(path))}."
        )
    if in_folder or place.suffix == ".parquet":
        import_package("pyarrow")
    return place


def write_index(index: Index, path: str | os.PathLike) -> None:
    """Writes an index into a file, in the format that the ending of the path names.

    In Parquet, which holds only UTF-8, other bytes in the names of files are written as `\\xe9`.
    """
    path = check_place(path)
    with written_whole(path) as aside:
        _WRITERS[path.suffix](index, aside)


def read_index(path: str | os.PathLike) -> Index:
    """Reads an index, from a file or from a folder of shards.

    Raises:
        ValueError: if there is none, or the file holds something else.
        MissingPackage: if its format needs a package that is not installed.
    """
    path = check_place(path)
    name = printable(str(path))
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ValueError(f"No index {name}. {_MAKE}")
    try:
        index = _READERS[path.suffix](path)
        _check(index)
    except MissingPackage:
        raise
    except Exception as error:  # NumPy, zipfile and Arrow raise many kinds for broken files
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(f"{name} should hold an index, but: {text}. {_MAKE}") from error
    return index


def _read_folder(folder: pathlib.Path) -> Index:
    name = printable(str(folder))
    if not (folder / CONTENTS).exists():
        begun = any(folder.glob(SHARDS))
        mend = "sit-keras embed was interrupted there: give it again." if begun else _MAKE
        raise ValueError(f"No index in the folder {name}: it has no {CONTENTS}. {mend}")
    contents = read_json(folder / CONTENTS, "what an index is about", ("about", "shards"), _MAKE)
    names, about = contents["shards"], contents["about"]
    are_named = isinstance(names, list) and names and all(_SHARD.fullmatch(str(n)) for n in names)
    if not are_named or not isinstance(about, dict):
        raise ValueError(f"{folder / CONTENTS} should name the shards of an index. {_MAKE}")
    parts = [read_index(folder / each) for each in names]
    whole = joined(parts)
    whole = dataclasses.replace(whole, about={**whole.about, **about})
    for each, part in zip(names, parts, strict=True):
        whole.require_same_space(part.about, printable(str(folder / each)))
    return whole


def _check(index: Index) -> None:
    missing = [name for name in _ABOUT if name not in index.about]
    if missing:
        raise ValueError(f"it does not say its {', '.join(missing)}")
    if index.about["format"] != FORMAT:
        found = index.about["format"]
        raise ValueError(f"it is of format {found}, and this version reads {FORMAT}")
    rows = {len(getattr(index, field)) for field in ("paths", "contents", "errors")}
    rows |= {len(index.embeddings), len(index.signatures)}
    if len(rows) != 1 or index.signatures.shape[1:] != (SIGNATURE_SIDE**2,):
        raise ValueError("its columns are of different lengths")
    if index.embeddings.ndim != 2 or not np.isfinite(index.embeddings).all():
        raise ValueError("an embedding is not finite")


def _write_npz(index, path):
    arrays = {
        field.name: getattr(index, field.name)
        for field in dataclasses.fields(index)
        if field.name != "about"
    }
    with open(path, "wb") as file:
        np.savez(file, ok=index.ok, about=np.array(json.dumps(index.about)), **arrays)


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        about = parse_json(str(file["about"]).encode())
        names = [field.name for field in dataclasses.fields(Index) if field.name != "about"]
        return Index(**{name: file[name] for name in names}, about=about)


# The first row says what the index is about; a comment would not be CSV.
_HEAD = ["path", "content", "ok", "error", "about", "signature"]


def _write_csv(index, path):
    width = index.embeddings.shape[1]
    form = ",".join(["%.9g"] * width)  # nine digits give back the same float32
    about = json.dumps(index.about)
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*_HEAD, *(f"e{i}" for i in range(width))])
        for i in range(len(index)):
            values = (form % tuple(index.embeddings[i])).split(",")
            cells = [index.paths[i], index.contents[i], int(index.ok[i]), index.errors[i]]
            signature = index.signatures[i].tobytes().hex()
            rows.writerow([*cells, "" if i else about, signature, *values])


def _read_csv(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        if next(rows, [])[: len(_HEAD)] != _HEAD:
            raise ValueError(f"its columns do not begin with {', '.join(_HEAD)}")
        about, columns, signatures, embeddings = "", [], [], []
        for row in rows:
            about = about or row[_HEAD.index("about")]  # also where somebody has sorted the rows
            columns.append((row[0], row[1], row[3]))
            signatures.append(np.frombuffer(bytes.fromhex(row[len(_HEAD) - 1]), np.uint8))
            embeddings.append(np.array(row[len(_HEAD) :], np.float32))
    paths, contents, errors = (np.array(column) for column in zip(*columns, strict=True))
    about = parse_json(about.encode())
    return Index(paths, contents, np.stack(embeddings), np.stack(signatures), errors, about)


def _write_parquet(index, path):
    arrow, parquet = import_package("pyarrow"), import_package("pyarrow.parquet")

    def lists(matrix):
        return arrow.FixedSizeListArray.from_arrays(arrow.array(matrix.ravel()), matrix.shape[1])

    table = arrow.table(
        {
            "path": [printable(path) for path in index.paths.tolist()],
            "content": index.contents.tolist(),
            "embedding": lists(index.embeddings),
            "signature": lists(index.signatures),
            "ok": index.ok,
            "error": [printable(error) for error in index.errors.tolist()],
        }
    )
    about = {"sit_keras": json.dumps(index.about)}
    parquet.write_table(table.replace_schema_metadata(about), path)


def _read_parquet(path):
    table = import_package("pyarrow.parquet").read_table(path)
    about = parse_json((table.schema.metadata or {}).get(b"sit_keras", b""))

    def matrix(name):
        column = table.column(name).combine_chunks()
        return column.flatten().to_numpy().reshape(len(column), -1)

    texts = (np.array(table.column(name).to_pylist(), str) for name in ("path", "content", "error"))
    paths, contents, errors = texts
    return Index(paths, contents, matrix("embedding"), matrix("signature"), errors, about)


_WRITERS = {".npz": _write_npz, ".csv": _write_csv, ".parquet": _write_parquet}
_READERS = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
