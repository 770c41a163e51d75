"""Planted copies are found, different images are not, and leaks between two indices are named."""

import csv
import os

import numpy as np
import pytest
from index_case import altered, write_photos
from PIL import Image

import sit_keras
from sit_keras.cli.main import call
from sit_keras.evaluation.index import read_index
from sit_keras.workflows import listed_images

ENCODER = "sit_digits"
pytestmark = pytest.mark.usefixtures("one_embedder")
HOW = ("content", "pixels", "jpeg", "small", "mirrored")
KIND = {"jpeg": "near", "small": "near"}


def embed(folder, output):
    return sit_keras.embed(str(folder), ENCODER, output)


def named(pairs):
    return sorted(
        (pair["kind"], *sorted(os.path.basename(pair[side]) for side in ("first", "second")))
        for pair in pairs
    )


@pytest.fixture(scope="module")
def planted(tmp_path_factory, one_embedder):
    """Forty pictures and two altered copies of each kind, with the pairs that they make."""
    folder = tmp_path_factory.mktemp("duplicates")
    paths = write_photos(folder / "photos", 40)
    expected = []
    for i, how in enumerate(2 * HOW):
        copy = altered(paths[3 * i], how)
        expected.append((KIND.get(how, how), *sorted((copy.name, paths[3 * i].name))))
    embed(folder / "photos", folder / "i.npz")
    return folder, sorted(expected)


def test_planted_copies_are_found_by_their_kind_and_nothing_else(planted, tmp_path, capsys):
    folder, expected = planted
    found = sit_keras.duplicates(folder / "i.npz", output=tmp_path / "d.html")
    assert named(found.pairs) == expected
    said = capsys.readouterr().out
    assert "10 pairs: 2 content, 2 pixels, 4 near, 0 alike, 2 mirrored" in said
    assert "The most similar other image of 48 images" in said
    page = (tmp_path / "d.html").read_text()
    assert page.count("<img ") == 20 and page.count("<section>") == 10


def test_copies_that_the_embedding_does_not_find_are_found_by_their_pixels(
    planted, tmp_path, capsys
):
    """The same pairs as before: what the threshold leaves out is alike in 16 x 16 pixels."""
    folder, expected = planted
    call("duplicates", [str(folder / "i.npz"), f"--output={tmp_path}/d.csv", "--threshold=0.9999"])
    rows = list(csv.DictReader((tmp_path / "d.csv").open()))
    assert {row["kind"] for row in rows} == {"content", "pixels", "near", "alike", "mirrored"}
    files = [sorted(os.path.basename(row[side]) for side in ("first", "second")) for row in rows]
    assert sorted(files) == sorted([first, second] for _, first, second in expected)
    lines = [line for line in capsys.readouterr().out.splitlines() if "photos" in line]
    assert len(lines) == len(rows)


def test_test_images_that_are_in_the_training_set_are_named(tmp_path, capsys):
    train = write_photos(tmp_path / "train", 14)
    write_photos(tmp_path / "test", 6, seed=1)
    leaks = []
    for number, how in enumerate(HOW):
        copy = altered(train[number], how)
        copy.rename(tmp_path / "test" / copy.name)
        leaks.append((KIND.get(how, how), *sorted((train[number].name, copy.name))))
    altered(train[9], "content")  # a pair within the training set is none between the two
    embed(tmp_path / "train", tmp_path / "train.npz")
    embed(tmp_path / "test", tmp_path / "test.npz")
    found = sit_keras.duplicates(tmp_path / "train.npz", against=tmp_path / "test.npz")
    assert named(found.pairs) == sorted(leaks)
    assert all("/train/" in pair["first"] and "/test/" in pair["second"] for pair in found.pairs)
    assert len(found.closest) == 11


def test_of_three_equal_files_and_a_near_one_each_pair_is_listed_with_the_first(tmp_path):
    paths = write_photos(tmp_path / "photos", 11)
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).write_bytes(paths[0].read_bytes())
    small = altered(paths[0], "small")
    embed(tmp_path / "photos", tmp_path / "i.npz")
    found = sit_keras.duplicates(tmp_path / "i.npz")
    assert named(found.pairs) == [
        ("content", "00.png", "a.png"),
        ("content", "00.png", "b.png"),
        ("near", small.name, "00.png"),
    ]


def test_pixels_that_differ_by_one_level_are_near_and_not_equal(tmp_path):
    paths = write_photos(tmp_path / "photos", 12)
    pixels = np.array(Image.open(paths[0]))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "photos" / "other.png")
    embed(tmp_path / "photos", tmp_path / "i.npz")
    found = sit_keras.duplicates(tmp_path / "i.npz")
    assert named(found.pairs) == [("near", "00.png", "other.png")]


def test_of_many_equal_images_each_is_read_once(tmp_path, monkeypatch):
    """Eight files with the same pixels are 28 pairs, within an index and between two."""
    (original,) = write_photos(tmp_path / "photos", 1)
    for level in range(1, 8):
        Image.open(original).save(tmp_path / "photos" / f"{level}.png", compress_level=level)
    original.unlink()
    Image.open(tmp_path / "photos" / "1.png").save(original, compress_level=0)
    write_photos(tmp_path / "photos" / "others", 12, seed=1)
    embed(tmp_path / "photos", tmp_path / "i.npz")
    contents = set(read_index(tmp_path / "i.npz").contents)
    read, names = listed_images.read_image, []

    def spy(path, *settings):
        names.append(os.path.basename(path))
        return read(path, *settings)

    monkeypatch.setattr(listed_images, "read_image", spy)
    equal = len(contents) - 12
    found = sit_keras.duplicates(tmp_path / "i.npz")
    assert [pair["kind"] for pair in found.pairs].count("pixels") == equal * (equal - 1) // 2 > 9
    assert len(names) == len(set(names)) == equal
    names.clear()
    found = sit_keras.duplicates(tmp_path / "i.npz", against=tmp_path / "i.npz")
    assert [pair["kind"] for pair in found.pairs].count("pixels") == equal * (equal - 1)
    assert len(names) == 2 * equal


def test_files_that_were_moved_are_said_not_to_be_compared(tmp_path, capsys):
    paths = write_photos(tmp_path / "photos", 12)
    copy = altered(paths[0], "pixels")
    embed(tmp_path / "photos", tmp_path / "i.npz")
    copy.rename(tmp_path / "moved.png")
    found = sit_keras.duplicates(tmp_path / "i.npz")
    assert [pair["kind"] for pair in found.pairs] == ["near"]
    assert f"are not shown or compared: {copy}. Embed them" in capsys.readouterr().out


def test_one_image_and_blank_images_are_no_duplicates_of_anything(tmp_path, capsys):
    write_photos(tmp_path / "one", 1)
    embed(tmp_path / "one", tmp_path / "one.npz")
    assert sit_keras.duplicates(tmp_path / "one.npz").pairs == []
    assert "There are no two different images to compare." in capsys.readouterr().out
    folder = tmp_path / "blank"
    write_photos(folder, 12)
    for name, level in (("white.png", 255), ("black.png", 0)):
        Image.fromarray(np.full((40, 40, 3), level, "uint8")).save(folder / name)
    embed(folder, tmp_path / "blank.npz")
    assert sit_keras.duplicates(tmp_path / "blank.npz").pairs == []


def test_what_cannot_be_compared_is_refused(planted, tmp_path):
    folder, _ = planted
    sit_keras.SiTBackbone((16, 16, 3), 4, 24, 1, 2, 32).save_to_preset(tmp_path / "encoder")
    write_photos(tmp_path / "photos", 1)
    sit_keras.embed(str(tmp_path / "photos"), tmp_path / "encoder", tmp_path / "other.npz")
    with pytest.raises(ValueError, match="other.npz has embeddings of another encoder"):
        sit_keras.duplicates(folder / "i.npz", against=tmp_path / "other.npz")
    with pytest.raises(ValueError, match="--threshold is a cosine in .0, 1.; received 97"):
        sit_keras.duplicates(folder / "i.npz", threshold=97)
    with pytest.raises(ValueError, match="No index"):
        sit_keras.duplicates(tmp_path / "nowhere.npz")


@pytest.mark.slow
def test_copies_of_real_photos_are_found(real_images, tmp_path):
    """Of the 330 photos every fifth gets an altered copy; no others are taken for copies."""
    sources = sorted(path for path in (real_images / "photos").rglob("*") if path.is_file())
    (tmp_path / "photos").mkdir()
    expected = []
    for number, source in enumerate(sources):
        path = tmp_path / "photos" / f"{number:03}.png"
        Image.open(source).convert("RGB").save(path)
        if number % 5 == 0:
            image = Image.open(path)
            how = HOW[number // 5 % 5]
            copy = path.with_name(f"{path.stem}-{how}.{'jpg' if how == 'jpeg' else 'png'}")
            if how == "small":
                image.resize((image.width // 2, image.height // 2)).save(copy)
            else:
                copy = altered(path, how)
            expected.append((KIND.get(how, how), *sorted((copy.name, path.name))))
    embed(tmp_path / "photos", tmp_path / "i.npz")
    found = named(sit_keras.duplicates(tmp_path / "i.npz").pairs)
    right = set(found) & set(expected)
    print(f"precision {len(right) / len(found):.3f}, recall {len(right) / len(expected):.3f}")
    assert len(right) >= 0.97 * len(expected) and len(right) >= 0.97 * len(found)
