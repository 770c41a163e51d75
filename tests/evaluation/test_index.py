"""The file of an index gives back what was written, and says what is wrong with another file."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from sit_keras.evaluation.index import (
    CONTENTS,
    SIGNATURE_SIDE,
    Index,
    is_folder,
    is_index,
    read_index,
    write_index,
)

ABOUT = {
    "format": 1, "encoder": "sit_digits", "space": "12ab", "features": "tokens", "source": "photos",
    "working_folder": "/home", "value_range": [0.0, 4095.0],
}  # fmt: skip
NAMES = ['a,"b".png', "two\nlines.png", "grün.png", "copy.png"]


def an_index(names=NAMES, **about):
    random = np.random.default_rng(0)
    return Index(
        paths=np.array(names),
        contents=np.array(["f1", "", "f2", "f1"]),
        embeddings=random.normal(size=(4, 3)).astype(np.float32) * np.float32(1e-3),
        signatures=random.integers(0, 256, (4, SIGNATURE_SIDE**2)).astype(np.uint8),
        errors=np.array(["", "it is damaged.", "", ""]),
        about={**ABOUT, **about},
    )


def columns(index):
    return [field.name for field in dataclasses.fields(index) if field.name != "about"]


@pytest.fixture(params=[".npz", ".csv", ".parquet"])
def path(request, tmp_path):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"index{request.param}"


def test_an_index_is_read_as_it_was_written(path):
    # Parquet holds only text that can be printed.
    names = ["a,b.png", "c.png", "grün.png", "d.png"] if path.suffix == ".parquet" else NAMES
    written = an_index(names)
    write_index(written, path)
    read = read_index(path)
    assert read.about == written.about
    for name in columns(written):
        expected = getattr(written, name)
        assert getattr(read, name).tolist() == expected.tolist(), name
    assert read.embeddings.dtype == np.float32 and read.ok.tolist() == [True, False, True, True]
    assert read.distinct().tolist() == [0, 2]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".npz", ".csv"])
def test_a_name_that_is_no_text_is_kept(ending, tmp_path):
    path = tmp_path / f"index{ending}"
    write_index(an_index(["caf\udce9.png", "b", "c", "d"]), path)
    assert read_index(path).paths[0] == "caf\udce9.png"


def test_a_table_whose_rows_somebody_sorted_is_still_an_index(tmp_path):
    path = tmp_path / "index.csv"
    write_index(an_index(), path)
    with open(path, newline="") as file:
        head, *rows = csv.reader(file)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *reversed(rows)])
    assert read_index(path).paths.tolist() == NAMES[::-1]
    assert read_index(path).about == ABOUT


def test_another_file_is_refused_in_one_sentence(path):
    path.write_bytes(b"path,embedding\n1,2\n")
    with pytest.raises(ValueError, match="should hold an index, but: .* Make it with sit-keras"):
        read_index(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"about": {}}, "JSON|does not say its format"),
        ({"about": {**ABOUT, "format": 2}}, "it is of format 2, and this version reads 1"),
        ({"embeddings": np.full((4, 3), np.nan, np.float32)}, "an embedding is not finite"),
        ({"errors": np.array(["", ""])}, "its columns are of different lengths"),
    ],
    ids=["nothing said", "later format", "not finite", "lengths"],
)
def test_an_index_that_cannot_be_used_is_refused(change, sentence, tmp_path):
    path = tmp_path / "index.npz"
    index = an_index()
    arrays = {name: getattr(index, name) for name in columns(index)}
    about = change.get("about", ABOUT)
    arrays |= {name: value for name, value in change.items() if name != "about"}
    np.savez(path, about=np.array(json.dumps(about)), **arrays)
    with pytest.raises(ValueError, match=sentence):
        read_index(path)


def test_a_name_without_a_known_ending_or_file_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="one of .npz, .csv, .parquet, or .*; received .*index.txt"
    ):
        write_index(an_index(), tmp_path / "index.txt")
    with pytest.raises(ValueError, match="No index .*none.npz"):
        read_index(tmp_path / "none.npz")


def test_embeddings_of_other_encoders_or_features_are_not_compared():
    index = an_index()
    index.require_same_space({**ABOUT, "encoder": "elsewhere"}, "x")
    for change, what in (({"space": "0"}, "encoder"), ({"features": "patch_tokens"}, "features")):
        with pytest.raises(ValueError, match=f"x has embeddings of another {what}"):
            index.require_same_space({**ABOUT, **change}, "x")


def shards_of(index, folder):
    """Writes an index as a folder of two shards, and returns what its contents say."""
    pytest.importorskip("pyarrow")
    names = ["shard-00000-ab.parquet", "shard-00001-cd.parquet"]
    folder.mkdir()
    for name, rows in zip(names, ([0], [1, 2, 3]), strict=True):
        write_index(index.take(np.array(rows)), folder / name)
    return {"about": index.about, "shards": names}


def test_a_folder_of_shards_is_read_in_their_order_and_other_files_of_it_are_not(tmp_path):
    written, folder = an_index(["a.png", "b.png", "c.png", "d.png"]), tmp_path / "archive"
    contents = shards_of(written, folder)
    write_index(written, folder / "shard-00002-ef.parquet")  # of an earlier index
    (folder / CONTENTS).write_text(json.dumps({**contents, "about": {**ABOUT, "source": "new"}}))
    read = read_index(folder)
    assert read.about == {**ABOUT, "source": "new"}
    for name in columns(written):
        assert getattr(read, name).tolist() == getattr(written, name).tolist(), name
    assert is_index(folder) and not is_index(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (None, "it has no index.json. sit-keras embed was interrupted there: give it again"),
        ({"shards": []}, "should name the shards of an index"),
        ({"shards": 3}, "should name the shards of an index"),
        ({"shards": ["../shard-0.parquet"]}, "should name the shards of an index"),
        ({"about": "photos"}, "should name the shards of an index"),
        ({"shards": ["shard-00009-ab.parquet"]}, "No index .*shard-00009-ab.parquet"),
        ({"about": {**ABOUT, "space": "0"}}, "shard-00000-ab.parquet has embeddings of another"),
    ],
    ids=["unfinished", "no shard", "a number", "elsewhere", "a text", "missing", "other encoder"],
)
def test_a_folder_that_cannot_be_used_is_refused(change, sentence, tmp_path):
    folder = tmp_path / "archive"
    contents = shards_of(an_index(["a", "b", "c", "d"]), folder)
    if change is not None:
        (folder / CONTENTS).write_text(json.dumps({**contents, **change}))
    with pytest.raises(ValueError, match=sentence):
        read_index(folder)


def test_a_path_is_a_folder_by_its_end_or_by_what_is_there(tmp_path):
    (tmp_path / "there.npz").mkdir()
    assert is_folder("archive/") and is_folder("archive") and is_folder("archive.v2/")
    assert is_folder(tmp_path / "there.npz")
    assert not is_folder("archive.npz") and not is_folder("archive.v2")
