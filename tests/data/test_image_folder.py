"""Folders of people's own images: what is used of them, and what is said."""

import os
import pathlib
import zlib

import numpy as np
import pytest
from folder_case import LONG_AGO, save
from PIL import Image

from sit_keras.config.files import make_own_folder
from sit_keras.config.presets import run_config
from sit_keras.data import reading
from sit_keras.data.folder import find_images, load_folder, survey_folder
from sit_keras.data.sources import load_source, survey_source
from sit_keras.workflows.messages import describe


def names(images):
    return [pathlib.Path(item).name for item in images.items]


def test_sub_folders_are_classes(tmp_path):
    save(tmp_path, "cat/1.jpg", "cat/deep/2.png", "dog/3.jpeg", "dog/notes.txt", "dog/.4.jpg")
    train, test = load_folder(tmp_path, strict=True)
    assert train.class_names == ("cat", "dog") and test is None
    assert names(train) == ["1.jpg", "2.png", "3.jpeg"]
    assert train.labels.tolist() == [0, 0, 1]
    assert survey_source(f"folder:{tmp_path}")[:2] == (3, 3)


@pytest.mark.parametrize("files", [("1.jpg", "2.jpg"), ("1.jpg", "cat/2.jpg"), ("all/1.jpg",)])
def test_images_without_classes(tmp_path, files):
    save(tmp_path, *files)
    train, _ = load_folder(tmp_path, strict=True)
    assert train.class_names == () and (train.labels == -1).all() and len(train) == len(files)
    assert survey_source(f"folder:{tmp_path}")[:2] == (len(files), 0)


def test_checksums_paths_and_range_are_kept(tmp_path, monkeypatch):
    save(tmp_path, "a.png", "b.png")
    monkeypatch.chdir(tmp_path)
    train, _ = load_folder(".", strict=True, value_range=(0.0, 4095.0))
    assert train.items.tolist() == ["a.png", "b.png"]
    expected = [zlib.crc32(pathlib.Path(item).read_bytes()) for item in train.items]
    assert train.checksums.tolist() == expected and train.checksums.dtype == np.uint32
    assert train.value_range == (0.0, 4095.0)


# --- What is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("0.png",), "1 image without classes"),
        (("a/0.png", "b/0.png"), "2 images in 2 classes (a, b)"),
        (
            tuple(f"{name}/0.png" for name in "abcdefgh"),
            "8 images in 8 classes (a, b, c, d, e, f, ...)",
        ),
        (
            ("a/0.png", "b/0.png", "cover.png"),
            "3 images in 2 classes (a, b), 1 of them beside the classes without a label "
            "(cover.png)",
        ),
        (
            ("a/0.png", "b/0.png", "1.png", "2.png", "3.png"),
            "5 images without classes (more than half of them lie beside the sub-folders a, b)",
        ),
        (
            ("album.jpg/0.png",),
            "1 image without classes (only one sub-folder has images: album.jpg)",
        ),
        (
            ("train/a/0.png", "train/b/0.png", "Valid/a/0.png", "Valid/b/0.png"),
            "2 images in 2 classes (a, b), 2 to test",
        ),
        (
            ("train/a/0.png", "train/b/0.png", "test/0.png", "test/1.png"),
            "2 images in 2 classes (a, b), none to test; left out: 2 test images without a class",
        ),
        (
            ("train/a/0.png", "train/b/0.png", "val/a/0.png"),
            "2 images in 2 classes (a, b), 1 to test; no test image of b",
        ),
        (
            ("train/a/0.png", "train/b/0.png", "val/b/0.png", "val/z/1.png", "val/z/2.png"),
            "2 images in 2 classes (a, b), 1 to test; no test image of a; left out: 2 test images "
            "of classes without training images (z)",
        ),
        (
            ("train/0.png", "test/a/0.png", "test/b/0.png"),
            "1 image without classes, none to test; left out: 2 test images, since the images to "
            "train on have no classes",
        ),
        (
            ("train/0.png", "test/0.png", "val/0.png", "cover.png"),
            "1 image without classes, none to test; left out: 2 images beside the splits "
            "(cover.png, val), 1 test image, since the images to train on have no classes",
        ),
        (
            ("a.png", ".b/0.png", "@eaDir/0.png", "._a.png", "c.txt"),
            "1 image without classes; left out: 1 hidden file, 1 hidden folder (.b), 1 other file "
            "(.txt), 1 system folder (@eaDir)",
        ),
    ],
)
def test_one_line_says_what_was_found(tmp_path, capsys, files, said):
    save(tmp_path, *files)
    load_folder(tmp_path, strict=True)
    assert capsys.readouterr().out == f"{tmp_path}: {said}\n"
    assert survey_folder(tmp_path).text == f"{tmp_path}: {said}"  # from what is remembered


def test_what_was_done_to_values_is_counted(tmp_path, capsys, monkeypatch):
    save(tmp_path, "a.png", "b.png", "c.png", "broken.png")
    (tmp_path / "broken.png").write_text("no image")
    check = reading.check_image

    def scaled(path, *settings):
        check(path, *settings)
        return "" if path.endswith("b.png") else "values from 0 to 65535 scaled to 0 to 255"

    monkeypatch.setattr(reading, "check_image", scaled)
    for _ in range(2):  # the second time from what is remembered
        load_folder(tmp_path, strict=False)
        said = capsys.readouterr().out
        assert said.endswith("; 2 files: values from 0 to 65535 scaled to 0 to 255\n")


def test_pictures_of_kinds_that_are_not_read_are_told_of(tmp_path, capsys):
    save(tmp_path, "a.jpg", "b.PSD", "c.psd")
    load_folder(tmp_path, strict=True)
    assert "left out: 2 .psd (" in capsys.readouterr().out
    os.unlink(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"No image in .*Left out: 2 \.psd \("):
        load_folder(tmp_path, strict=False)


def test_results_among_the_images_are_not_trained_on(tmp_path, capsys):
    save(tmp_path, "a.png", "b.png")
    save(make_own_folder(tmp_path / "runs" / "mine") / "sheets", "epoch_1.png")
    assert len(load_folder(tmp_path, strict=True)[0]) == 2
    assert "left out: 1 folder of SiT-Keras results (runs/mine)" in capsys.readouterr().out


def test_images_that_are_found_by_name_are_told_of_on_the_standard_error(tmp_path, capsys):
    save(tmp_path, "a.png", "b.psd", "@eaDir/c.png")
    assert find_images(tmp_path) == [tmp_path / "a.png"]
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(f"{tmp_path}: left out: 1 .psd (")
    assert error.endswith("1 system folder (@eaDir)\n") and error.count("\n") == 1
    os.unlink(tmp_path / "b.psd")
    os.unlink(tmp_path / "@eaDir/c.png")
    os.rmdir(tmp_path / "@eaDir")
    find_images(tmp_path)
    assert capsys.readouterr() == ("", "")


# --- Splits ---------------------------------------------------------------------------------------


def test_train_and_val_are_splits(tmp_path):
    save(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "val/b/4.jpg")
    train, test = load_folder(tmp_path, strict=True)
    assert names(train) == ["1.jpg", "2.jpg"]
    assert names(test) == ["3.jpg", "4.jpg"] and test.labels.tolist() == [0, 1]


def test_test_images_are_matched_by_the_name_of_their_class(tmp_path):
    save(tmp_path, "train/b/0.png", "train/c/0.png", "train/d/0.png")
    save(tmp_path, "test/a/1.png", "test/c/2.png", "test/d/3.png", "test/4.png")
    train, test = load_folder(tmp_path, strict=True)
    assert train.class_names == test.class_names == ("b", "c", "d")
    assert names(test) == ["2.png", "3.png"] and test.labels.tolist() == [1, 2]
    assert len(test.checksums) == 2


@pytest.mark.parametrize(
    "tests", [("test/0.png",), ("test/z/0.png", "test/y/0.png"), ("test/a/broken.png",)]
)
def test_images_that_test_nothing_do_not_keep_others_from_training(tmp_path, tests):
    save(tmp_path, "train/a/0.png", "train/b/0.png", *tests)
    for path in tmp_path.rglob("broken.png"):
        path.write_text("no image")
    source = load_source(f"folder:{tmp_path}")
    assert len(source.train) == 2 and source.test is None


# --- Files that cannot be read --------------------------------------------------------------------


@pytest.fixture
def folder_with_broken_files(tmp_path, random):
    for i in range(4):
        pixels = random.integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"good_{i}.jpg")
        Image.fromarray(pixels).save(tmp_path / f"cut_{i}.png")
    for i in range(2):
        whole = (tmp_path / f"cut_{i}.png").read_bytes()
        (tmp_path / f"cut_{i}.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    return tmp_path


def test_broken_files_are_named_counted_and_skipped(folder_with_broken_files, caplog, capsys):
    train, _ = load_folder(folder_with_broken_files, strict=False)
    assert len(train) == 6
    message = caplog.text
    assert "4 of 10 files" in message and "--strict" in message
    for name in ("cut_0.png", "cut_1.png", "empty.png", "text.jpg"):
        assert name in message
    assert "good_0" not in message and "cut_2" not in message
    assert "6 images without classes; left out: 4 unreadable files" in capsys.readouterr().out


def test_broken_files_are_refused_if_strict(folder_with_broken_files):
    with pytest.raises(ValueError, match=r"4 of 10 files(.|\n)*cut_0.png(.|\n)*without --strict"):
        load_folder(folder_with_broken_files, strict=True)


def test_many_broken_files_are_not_all_listed(tmp_path, caplog):
    save(tmp_path, "good.png", *(f"{i:02d}.png" for i in range(25)))
    for path in tmp_path.glob("[0-9]*.png"):
        path.write_text("no image")
    load_folder(tmp_path, strict=False)
    assert "19.png" in caplog.text and "20.png" not in caplog.text and "and 5 more" in caplog.text


def test_a_class_whose_files_cannot_be_read_is_no_class(tmp_path):
    save(tmp_path, "train/cat/0.png", "train/dog/1.png", "train/bird/2.png", "test/bird/3.png")
    (tmp_path / "train/bird/2.png").write_text("<html>404 Not Found</html>")
    train, test = load_folder(tmp_path, strict=False)
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 1] and test is None
    (tmp_path / "train/dog/1.png").write_text("<html>404 Not Found</html>")
    assert load_folder(tmp_path, strict=False)[0].class_names == ()


def test_a_survey_counts_what_an_earlier_opening_could_read(tmp_path):
    save(tmp_path, "cat/0.png", "dog/1.png", "bird/2.png")
    (tmp_path / "bird/2.png").write_text("no image")
    os.utime(tmp_path / "bird/2.png", (LONG_AGO, LONG_AGO))
    before = survey_folder(tmp_path)
    assert before[:2] == (3, 3) and before.text.endswith("; 3 not yet read")
    train, _ = load_folder(tmp_path, strict=False)
    after = survey_folder(tmp_path)
    assert after[:2] == (len(train), 2) and "left out: 1 unreadable file" in after.text


def test_a_dry_run_holds_what_was_found(tmp_path):
    save(tmp_path, *(f"{folder}/{i}.png" for folder in "ab" for i in range(20)), "c.txt")
    described = describe(run_config("native32", dataset=f"folder:{tmp_path}", batch_size=8))
    assert described["found"].startswith(f"{tmp_path}: 40 images in 2 classes (a, b); left out: 1")
    assert described["train_images"] + described["held_out_images"] == 40
    assert "found" not in describe(run_config("digits"))


# --- What is refused ------------------------------------------------------------------------------


def test_folders_without_images(tmp_path):
    with pytest.raises(ValueError, match="No folder .*nowhere"):
        load_source(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match="No image in"):
        load_source(f"folder:{tmp_path}")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match="No image is left"):
        load_source(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "name of the folder is empty"),
        ("  ", "name of the folder is empty"),
        ("a.png", r"a\.png is a file: give the folder"),
        ("~nobody-of-this-name/photos", "No folder ~nobody-of-this-name/photos"),
        ("a\0b", r"No folder a\\x00b"),
    ],
)
@pytest.mark.parametrize("ask", [load_source, survey_source])
def test_what_is_no_folder_is_refused(tmp_path, monkeypatch, path, message, ask):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, "a.png")
    with pytest.raises(ValueError, match=message):
        ask(f"folder:{path}")


# --- Names that are not UTF-8 ---------------------------------------------------------------------


def test_names_that_are_not_utf8_can_be_printed(tmp_path, capsys):
    for name in (b"\xe9cole", b"owl"):
        save(tmp_path / os.fsdecode(name), os.fsdecode(b"caf\xe9.png"))
    train, _ = load_folder(tmp_path, strict=True)
    assert train.class_names == ("owl", r"\xe9cole") and len(train) == 2
    assert r"2 images in 2 classes (owl, \xe9cole)" in capsys.readouterr().out
    assert all(os.path.exists(item) for item in train.items.tolist())
