"""Names of files, classes and data sets in what people publish."""

import html
import pathlib

import pytest

from sit_keras.runs.shown_names import (
    markdown_code,
    markdown_text,
    shown_dataset,
    shown_path,
    shown_settings,
)


def test_a_path_is_shown_without_the_folders_above_the_working_folder(tmp_path, monkeypatch):
    here = tmp_path / "someone" / "work"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert shown_path("runs/digits") == shown_path(here / "runs" / "digits") == "runs/digits"
    assert shown_path(tmp_path / "someone" / "photos") == "photos"
    assert shown_path("../photos/") == shown_path("runs/../../photos") == "photos"
    assert shown_path(".") == "work" and shown_path("/") == "/"
    assert shown_path("hf://someone/encoder") == "hf://someone/encoder"
    assert shown_path(tmp_path / "some:" / "photos") == "photos"
    assert shown_path(f"{tmp_path}/http://x") == "x"
    assert shown_dataset(f"folder:{here}/photos") == "folder:photos"
    assert shown_dataset("cifar10") == "cifar10"
    shown = shown_settings(
        {"dataset": f"folder:{tmp_path}/a", "initial_encoder": f"{tmp_path}/e.keras", "epochs": 3}
    )
    assert shown == {"dataset": "folder:a", "initial_encoder": "e.keras", "epochs": 3}
    assert shown_settings({"initial_encoder": None}) == {"initial_encoder": None}


def test_below_a_folder_of_home_folders_a_path_names_no_owner(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "someone"))
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "someone" / "photos") == "photos"
    assert shown_path("~/photos") == "photos"
    (tmp_path / "someone").mkdir()
    monkeypatch.chdir(tmp_path / "someone")
    assert shown_path("~/my/photos") == "my/photos"
    assert pathlib.Path.home() == tmp_path / "someone"


HOSTILE = "a|b`<img src=x>[x](http://y)\n# z *and* _so_ $x$ &amp; \\ ~~no~~"


def test_text_of_markdown_means_nothing_but_itself():
    text = markdown_text(HOSTILE)
    assert "\n" not in text and "<" not in text
    for mark in "|`[]()#*$~":
        assert text.count(mark) == text.count(f"\\{mark}") > 0, mark
    assert "\\://" in text  # no address is made of it
    # What a reader sees: each mark without its backslash.
    seen = html.unescape(text.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\"))
    assert seen == HOSTILE.replace("\n", "\\n")
    assert markdown_text("tiny_imagenet") == "tiny_imagenet"


@pytest.mark.parametrize("name", [HOSTILE, "`", "``a```", "a`", "\r\n\t\u202e\u2028", "\udcff"])
def test_a_code_span_ends_where_its_name_ends(name):
    code = markdown_code(name)
    fence = code[: len(code) - len(code.lstrip("`"))]
    assert code.endswith(fence) and fence not in code[len(fence) : -len(fence)].strip()
    assert code.isprintable()
