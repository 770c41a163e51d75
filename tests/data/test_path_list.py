"""Text files of paths: how they are read, and what is said of what they name."""

import os
import pathlib

import pytest
from folder_case import LONG_AGO, save

from sit_keras.config.presets import run_config
from sit_keras.data.path_list import load_list, read_list, survey_list
from sit_keras.data.sources import load_source, survey_source
from sit_keras.runs.data import RunData
from sit_keras.runs.image_record import ImageRecord
from sit_keras.runs.shown_names import shown_dataset
from sit_keras.workflows.listed_images import list_images


def spoil(root, *names):
    for name in names:
        (root / name).write_text("no image")
        os.utime(root / name, (LONG_AGO, LONG_AGO))


def listed(root, text):
    """Writes a list, as bytes or as text."""
    path = root / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.png\nb/c.png", {"a.png": "", "b/c.png": ""}),
        ("a.png,cat\nb.png\tdog\nc.png", {"a.png": "cat", "b.png": "dog", "c.png": ""}),
        ("\ufeffa.png\r\n\r\n# one, two, three\r\n  b.png  \r\n", {"a.png": "", "b.png": ""}),
        ("a.png\rb.png", {"a.png": "", "b.png": ""}),
        ('"a, b.png",cat', {"a, b.png": "cat"}),
        ('"a, b.png"', {"a, b.png": ""}),
        ("a, b.png\tcat", {"a, b.png": "cat"}),
        ('a.png,"cat, grey"', {"a.png": "cat, grey"}),
        ('"#1.png",dog', {"#1.png": "dog"}),
        ('"say ""a"".png"', {'say "a".png': ""}),
        ('say "a".png', {'say "a".png': ""}),
        ("my photo.png , a class ", {"my photo.png": "a class"}),
        ("a.png,\nb.png\t", {"a.png": "", "b.png": ""}),
        (b"caf\xe9.png", {"caf\udce9.png": ""}),
        ("дом.png,дом", {"дом.png": "дом"}),
    ],
)  # fmt: skip
def test_a_line_is_a_path_and_at_most_a_class(tmp_path, text, expected):
    found = read_list(listed(tmp_path, text))
    assert found.classes == {f"{tmp_path}/{name}": label for name, label in expected.items()}
    assert found.repeated == []


def test_paths_start_from_the_folder_of_the_list(tmp_path, monkeypatch):
    save(tmp_path, "lists/a.png", "b.png", "home/c.png", "d.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    listed(tmp_path / "lists", f"a.png\n../b.png\n~/c.png\n{tmp_path}/d.png")
    monkeypatch.chdir(tmp_path)
    images = load_list("lists/list.txt", strict=True)
    assert [pathlib.Path(item).name for item in images.items] == [f"{x}.png" for x in "abcd"]
    assert all(os.path.isabs(item) and os.path.exists(item) for item in images.items)
    assert images.checksums is not None and not images.class_names


def test_a_file_counts_once_however_it_is_written(tmp_path, capsys):
    save(tmp_path, "p/a.png", "p/b.png")
    (tmp_path / "q").symlink_to(tmp_path / "p")
    lines = ["p/a.png", "./p/a.png,cat", f"{tmp_path}/p/a.png", "q/a.png,cat", "p/b.png,dog"]
    images = load_list(listed(tmp_path, "\n".join(lines)), strict=True)
    assert len(images) == 2 and images.labels.tolist() == [0, 1]
    assert "left out: 3 repeated lines (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png", "1 image without classes"),
        ("a.png,cat\nb.png,dog\nc.png", "3 images in 2 classes (cat, dog), "
         "1 of them without a label"),
        ("a.png,cat\nb.png", "2 images without classes (only one class is named: cat)"),
        (
            "a.png,cat\nb.png,dog\nbroken.png,bird\nx.png,fish\ny.png\na.png",
            "2 images in 2 classes (cat, dog); left out: 2 missing files (x.png, y.png), "
            "1 repeated line (a.png), 1 unreadable file",
        ),
        ("a.png\nnotes.txt", "1 image without classes; left out: 1 unreadable file"),
    ],
)  # fmt: skip
def test_one_line_says_what_was_found(tmp_path, capsys, text, said):
    save(tmp_path, "a.png", "b.png", "c.png")
    spoil(tmp_path, "broken.png", "notes.txt")
    path = listed(tmp_path, text)
    load_list(path, strict=False)
    assert capsys.readouterr().out == f"{path}: {said}\n"
    assert survey_list(path).text == f"{path}: {said}"  # from what is remembered


def test_before_the_first_opening_files_count_as_images(tmp_path):
    save(tmp_path, "a.png")
    spoil(tmp_path, "broken.png")
    survey = survey_list(listed(tmp_path, "a.png,x\nbroken.png,y\ngone.png"))
    assert survey.images == survey.labelled == 2
    assert survey.text.endswith("left out: 1 missing file (gone.png); 2 not yet read")


def test_a_survey_that_reads_counts_what_training_has_and_hands_it_on(tmp_path, capsys):
    save(tmp_path, *(f"{i}.png" for i in range(6)))
    spoil(tmp_path, *(f"{i}.png" for i in range(6, 24)))
    path = listed(tmp_path, "\n".join(f"{i}.png,{'ab'[i % 2]}" for i in range(24)))
    survey = survey_source(f"list:{path}", read=True)
    assert survey.images == survey.labelled == 6
    assert survey.text == f"{path}: 6 images in 2 classes (a, b); left out: 18 unreadable files"
    assert capsys.readouterr().out == ""
    loaded = load_source(f"list:{path}").train
    assert survey.train.items.tolist() == loaded.items.tolist()
    assert survey.train.labels.tolist() == loaded.labels.tolist()
    assert survey.train.checksums.tolist() == loaded.checksums.tolist()


def test_missing_and_broken_files_are_refused_where_that_is_asked_for(tmp_path):
    save(tmp_path, "a.png")
    spoil(tmp_path, "broken.png")
    path = listed(tmp_path, "a.png\nbroken.png\ngone.png\n.")
    with pytest.raises(ValueError, match="3 of 4 files in .*list.txt cannot be read:") as refused:
        load_list(path, strict=True)
    assert f"{tmp_path}/gone.png: there is no such file" in str(refused.value)
    assert f"{tmp_path}/broken.png: its content is no image" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no image: write the path of one in each line"),
        ("# nothing\n\n", "lists no image"),
        ("a.png,cat,1", "line 1 has 3 parts, .* and at most a class: put what has a comma"),
        ("\na.png\tcat\t1", "line 2 has 3 parts, .* put what has a tab"),
        ('"a.png', "line 1: the double quotes of .* do not match"),
        ('"a.png"x,cat', "line 1: the double quotes of .* do not match"),
        (",cat", "line 1 has no path"),
        ("a.png,cat\n./a.png,dog", "line 2: ./a.png is of class dog here and of class cat in"),
        ("x.png\ny.png", "None of the 2 files .* the first is .*x.png. Relative paths start from"),
        ("broken.png", "No image is left to train on in .*list.txt: none of its 1 files"),
        ("a.png".encode("utf-16"), "is no text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is no text in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_images_is_refused(tmp_path, text, message):
    save(tmp_path, "a.png")
    spoil(tmp_path, "broken.png")
    with pytest.raises(ValueError, match=message):
        load_list(listed(tmp_path, text), strict=False)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder: give folder:PATH"):
        load_source(f"list:{tmp_path}")
    with pytest.raises(ValueError, match="No file .*gone.txt: give a text file of paths"):
        load_source(f"list:{tmp_path}/gone.txt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="No file .*pipe"):
        load_source(f"list:{tmp_path}/pipe")


def test_a_list_and_its_folder_are_remembered_apart(tmp_path):
    save(tmp_path, "a.png", "b.png")
    load_source(f"folder:{tmp_path}")
    path = listed(tmp_path, "a.png")
    load_list(path, strict=True)
    from sit_keras.data.folder import survey_folder

    assert "not yet read" not in survey_folder(tmp_path).text + survey_list(path).text


def test_the_folder_of_a_list_is_that_of_its_images(tmp_path, monkeypatch):
    save(tmp_path, *(f"photos/{i}.png" for i in range(10)))
    listed(tmp_path, "\n".join(f"photos/{i}.png,{'ab'[i % 2]}" for i in range(10)))
    monkeypatch.chdir(tmp_path)
    data = RunData.load(run_config("digits", dataset="list:list.txt", batch_size=4, holdout=0.2))
    assert data.folder == tmp_path and len(data.held_out) == 2
    assert ImageRecord.of(data).names[0] == "photos/0.png"
    for output in (tmp_path, tmp_path / "photos"):
        with pytest.raises(ValueError, match="is a folder of the images of list:list.txt"):
            data.refuse_as_output(output)
    data.refuse_as_output(tmp_path / "runs/new")
    assert shown_dataset("list:/home/me/list.txt") == "list:list.txt"


def test_an_index_of_a_list_has_its_files_and_their_range(tmp_path):
    save(tmp_path, "a.png", "b.png", "c.png")
    path = listed(tmp_path, "c.png\na.png")
    found = list_images(f"list:{path}", value_range=(0.0, 4095.0))
    assert found.paths == [f"{tmp_path}/c.png", f"{tmp_path}/a.png"]
    assert found.images.value_range == (0.0, 4095.0)
