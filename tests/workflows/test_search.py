"""Pictures in, the most similar images out, and a clear sentence where that cannot be."""

import csv
import dataclasses
import re
import sys

import numpy as np
import pytest
from index_case import altered, write_photos
from PIL import Image

import sit_keras
from sit_keras.cli.main import call
from sit_keras.evaluation.index import read_index, write_index
from sit_keras.workflows.index_shards import IndexShards

ENCODER = "sit_digits"
pytestmark = pytest.mark.usefixtures("one_embedder")


@pytest.fixture(scope="module")
def made(tmp_path_factory, one_embedder):
    """A folder of twelve pictures with its index, which tests leave as they are."""
    folder = tmp_path_factory.mktemp("search")
    paths = write_photos(folder / "photos", 12)
    sit_keras.embed(str(folder / "photos"), ENCODER, folder / "i.npz")
    return folder, paths


def test_a_smaller_copy_finds_its_original_first(made, tmp_path):
    folder, paths = made
    queries = []
    for number, how in ((3, "small"), (7, "jpeg")):
        copy = tmp_path / paths[number].name
        copy.write_bytes(paths[number].read_bytes())
        queries.append(altered(copy, how))
    found = sit_keras.search(folder / "i.npz", queries, k=4)
    assert [each["rank"] for each in found] == [1, 2, 3, 4] * 2
    for number, answers in ((3, found[:4]), (7, found[4:])):
        assert answers[0]["path"] == str(paths[number]) and answers[0]["similarity"] > 0.95
        assert not answers[0]["same_content"] and answers[1]["similarity"] < 0.9
        values = [each["similarity"] for each in answers]
        assert values == sorted(values, reverse=True)


def test_the_page_needs_no_other_file(made, tmp_path, capsys):
    folder, paths = made
    call("search", [str(folder / "i.npz"), str(paths[0]), "--k=3", f"--output={tmp_path}/s.html"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(paths[0]) and lines[1].endswith(f"1.000  {paths[0]}  (the same file)")
    page = (tmp_path / "s.html").read_text()
    assert page.count("<img ") == 4 and page.count("src='data:image/jpeg;base64,") == 4
    assert not re.search(r"(src|href)=['\"](?!data:)", page)


def test_the_table_is_a_file_too(made, tmp_path):
    folder, paths = made
    sit_keras.search(folder / "i.npz", [paths[0]], k=2, output=tmp_path / "s.csv")
    first, second = csv.DictReader((tmp_path / "s.csv").open())
    assert first["path"] == str(paths[0]) and second["rank"] == "2"


def test_one_index_can_ask_another(made, tmp_path):
    folder, paths = made
    found = sit_keras.search(folder / "i.npz", [folder / "i.npz"], k=1)
    assert [each["path"] for each in found] == [str(path) for path in paths]


def test_a_folder_of_shards_is_searched_like_a_file(made, tmp_path):
    pytest.importorskip("pyarrow")
    folder, paths = made
    index = read_index(folder / "i.npz")
    with IndexShards(tmp_path / "archive", in_folder=True) as shards:
        for rows in np.split(np.arange(12), [5, 10]):
            shards.add(index.take(rows), is_known=False)
        shards.finish()
    for query in ([paths[3], paths[7]], [folder / "i.npz"]):
        expected = sit_keras.search(folder / "i.npz", query, k=3)
        assert sit_keras.search(tmp_path / "archive", query, k=3) == expected
    assert sit_keras.search(folder / "i.npz", [tmp_path / "archive"], k=3) == expected
    expected, found = (
        sit_keras.duplicates(each, against=folder / "i.npz", threshold=0.5)
        for each in (folder / "i.npz", tmp_path / "archive")
    )
    assert found.pairs == expected.pairs and len(found.pairs) >= 12


def test_an_index_of_another_encoder_is_refused(made, tmp_path):
    folder, paths = made
    sit_keras.SiTBackbone((16, 16, 3), 4, 24, 1, 2, 32).save_to_preset(tmp_path / "encoder")
    sit_keras.embed(str(folder / "photos"), tmp_path / "encoder", tmp_path / "other.npz")
    with pytest.raises(ValueError, match="other.npz has embeddings of another encoder"):
        sit_keras.search(folder / "i.npz", [tmp_path / "other.npz"])
    with pytest.raises(ValueError, match="The query has embeddings of another encoder"):
        sit_keras.search(folder / "i.npz", [paths[0]], encoder=tmp_path / "encoder")


def test_an_encoder_that_was_moved_can_be_named(made, tmp_path):
    folder, paths = made
    sit_keras.SiTBackbone((16, 16, 3), 4, 24, 1, 2, 32).save_to_preset(tmp_path / "encoder")
    sit_keras.embed(str(folder / "photos"), tmp_path / "encoder", tmp_path / "i.npz")
    (tmp_path / "encoder").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="No encoder at .*encoder"):
        sit_keras.search(tmp_path / "i.npz", [paths[0]])
    assert sit_keras.search(tmp_path / "i.npz", [paths[0]], k=1, encoder=tmp_path / "moved")


def test_the_index_and_its_photos_may_be_used_from_another_folder(tmp_path, monkeypatch, capsys):
    paths = write_photos(tmp_path / "photos", 3)
    monkeypatch.chdir(tmp_path)
    sit_keras.embed("photos", ENCODER, "i.npz")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    sit_keras.search("../i.npz", [paths[0]], k=3, output="s.html")
    said = capsys.readouterr().out
    assert "no longer" not in said and "fewer than 10 different images" in said
    assert "no longer there" not in (tmp_path / "elsewhere" / "s.html").read_text()


def test_a_file_that_was_moved_is_still_found_and_has_no_thumbnail(tmp_path, capsys):
    paths = write_photos(tmp_path / "photos", 3)
    sit_keras.embed(str(tmp_path / "photos"), ENCODER, tmp_path / "i.npz")
    paths[1].rename(tmp_path / "moved.png")
    found = sit_keras.search(
        tmp_path / "i.npz", [tmp_path / "moved.png"], k=9, output=tmp_path / "s.html"
    )
    assert len(found) == 3 and found[0]["path"] == str(paths[1]) and found[0]["same_content"]
    said = capsys.readouterr().out
    assert "The index has 3 images, so that many are shown instead of 9." in said
    assert f"their pixels are not shown or compared: {paths[1]}. Embed them" in said
    assert "<p>no longer there</p>" in (tmp_path / "s.html").read_text()


def test_an_unreadable_query_is_named_and_others_are_answered(made, tmp_path, capsys):
    folder, paths = made
    (tmp_path / "bad.png").write_bytes(b"no picture")
    found = sit_keras.search(folder / "i.npz", [tmp_path / "bad.png", paths[2]], k=1)
    assert [each["query"] for each in found] == [str(paths[2])]
    assert "1 of 2 queries cannot be read:" in capsys.readouterr().out
    with pytest.raises(ValueError, match="None of the queries can be read"):
        sit_keras.search(folder / "i.npz", [tmp_path / "bad.png"])


@pytest.mark.parametrize(
    ("query", "settings", "sentence"),
    [
        (["nowhere.png"], {}, "No picture nowhere.png: give image files, folders"),
        (["00.png"], {"k": 0}, "--k is a number of images from 1; received 0"),
        ("00.png", {}, "Queries are a list, such as"),
        (["00.png", "i.npz"], {}, "Queries are pictures, or one index alone"),
        (["00.png"], {"output": "s.png"}, "a file that ends in .html or .csv; received s.png"),
    ],
)
def test_impossible_questions_are_refused(query, settings, sentence, made):
    with pytest.raises(ValueError, match=sentence):
        sit_keras.search(made[0] / "i.npz", query, **settings)


def test_the_command_needs_an_index_and_a_query(made):
    with pytest.raises(ValueError, match="INDEX is missing: A file or folder of sit-keras"):
        call("search", [])
    with pytest.raises(ValueError, match="QUERY is missing"):
        call("search", ["i.npz"])


def test_thumbnails_of_a_data_set_are_its_images(tmp_path):
    sit_keras.embed("digits", ENCODER, tmp_path / "d.npz")
    one = write_photos(tmp_path / "photos", 1)
    sit_keras.search(tmp_path / "d.npz", one, k=5, output=tmp_path / "s.html")
    assert (tmp_path / "s.html").read_text().count("<img ") == 6


def as_data_set(made, tmp_path, source, numbers):
    """Writes an index whose images are called those of a data set, and returns its path."""
    found = read_index(made[0] / "i.npz").take(np.arange(len(numbers)))
    paths = np.array([f"{source}#train/{number}" for number in numbers])
    about = {**found.about, "source": source}
    write_index(dataclasses.replace(found, paths=paths, about=about), tmp_path / "d.npz")
    return tmp_path / "d.npz"


@pytest.mark.parametrize("source", ["cifar10", "tfds:mnist"])
def test_without_the_package_of_a_data_set_the_page_is_written_and_names_it(
    made, tmp_path, monkeypatch, capsys, source
):
    index = as_data_set(made, tmp_path, source, (0, 1))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    sit_keras.search(index, made[1][:1], k=2, output=tmp_path / "s.html")
    assert (tmp_path / "s.html").read_text().count("<p>no longer there</p>") == 2
    said = capsys.readouterr().out
    assert "Not readable on this machine, so their pixels are not shown or compared: " in said
    assert 'tensorflow-datasets is not installed: pip install "sit-keras[data]".' in said


def test_without_the_package_of_a_file_the_page_is_written_and_names_it(
    tmp_path, monkeypatch, capsys
):
    tifffile = pytest.importorskip("tifffile")
    one, other = write_photos(tmp_path / "photos", 2)
    pixels = np.array(Image.open(one)).astype("uint16") * 10
    tifffile.imwrite(tmp_path / "photos" / "a.tif", pixels, photometric="rgb")
    sit_keras.embed(str(tmp_path / "photos"), ENCODER, tmp_path / "i.npz", value_range=(0, 2550))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    sit_keras.search(tmp_path / "i.npz", [one], k=3, output=tmp_path / "s.html")
    assert (tmp_path / "s.html").read_text().count("<p>no longer there</p>") == 1
    assert 'a.tif. tifffile is not installed: pip install "sit-keras[b' in capsys.readouterr().out


def test_an_image_that_a_data_set_has_no_more_has_no_thumbnail(made, tmp_path, capsys):
    index = as_data_set(made, tmp_path, "digits", (0, 99999))
    sit_keras.search(index, made[1][:1], k=2, output=tmp_path / "s.html")
    assert "not shown or compared: digits#train/99999. Embed them" in capsys.readouterr().out
