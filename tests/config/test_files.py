"""Files are written whole or not at all."""

import os
import stat

import pytest

from sit_keras.config.files import (
    UNFINISHED,
    make_own_folder,
    read_json,
    remove_unfinished,
    written_whole,
)


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(OSError, match="disk"), written_whole(tmp_path / "a.json") as aside:
        aside.write_text("half of the n")
        assert aside.suffix == ".json"
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_link_that_waits_under_a_temporary_name_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    for name in (".writing", f"{UNFINISHED}a.json", f"{UNFINISHED}1.json"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    with written_whole(tmp_path / "a.json") as aside:
        aside.write_text("new")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "a.json").read_text() == "new"


def test_others_may_read_a_file_as_far_as_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        with written_whole(tmp_path / "a") as aside:
            aside.write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / f"{UNFINISHED}x.keras").write_text("half")
    (tmp_path / "whole").write_text("whole")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_folder_of_results_is_marked(tmp_path):
    folder = make_own_folder(tmp_path / "runs" / "mine")
    assert [path.name for path in folder.iterdir()] == [".sit-keras"]
    assert make_own_folder(folder) == folder


@pytest.mark.parametrize("name", ["a.weights.h5", "b.tar.h5", "c.keras", "d"])
def test_the_file_aside_has_the_ending_that_a_writer_looks_at(name, tmp_path):
    ending = {"a.weights.h5": ".weights.h5", "b.tar.h5": ".h5", "c.keras": ".keras", "d": ""}[name]
    with written_whole(tmp_path / name) as aside:
        assert aside.name.endswith(ending) and aside.parent == tmp_path
        assert ending != ".h5" or ".tar" not in aside.name


BROKEN = {
    "empty": b"",
    "cut off": b'{"a": 1',
    "a list": b"[1, 2]",
    "null": b"null",
    "a text": b'"a"',
    "no UTF-8": b'{"a": "\xff"}',
    "deep": b"[" * 100_000,
    "many digits": b'{"a": ' + b"9" * 5000 + b"}",
    "nothing in it": b"{}",
    "other values": b'{"b": 1}',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_json_file_is_named_with_what_it_should_hold_and_what_to_do(kind, tmp_path):
    path = tmp_path / "results.json"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(
        ValueError, match="should hold the results, but it .* Remove it.$"
    ) as caught:
        read_json(path, "the results", ["a"], "Remove it.")
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_json_file_that_is_none_is_refused_and_a_whole_one_is_read(tmp_path):
    with pytest.raises(ValueError, match="nothing should hold the results, but"):
        read_json(tmp_path / "nothing", "the results")
    with pytest.raises(ValueError, match="should hold the results, but"):
        read_json(tmp_path, "the results")
    (tmp_path / "a.json").write_text('{"a": ["é", null, 1e-3]}')
    assert read_json(tmp_path / "a.json", "the results", ["a"]) == {"a": ["é", None, 1e-3]}
