"""Files are written whole or not at all."""

import os
import stat

import pytest

from sit_keras.config.files import UNFINISHED, make_own_folder, remove_unfinished, written_whole


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
