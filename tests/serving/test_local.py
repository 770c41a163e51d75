"""What commands do with an export in their own process: photos upright, outliers first."""

import pathlib

import numpy as np
import pytest
from PIL import Image
from serving_case import NAMES

from sit_keras.cli.main import call
from sit_keras.serving.contract import keras_outputs
from sit_keras.serving.export import _load, export
from sit_keras.serving.local import ask
from sit_keras.workflows.orient import orient


@pytest.fixture
def photos(tmp_path, random):
    """A folder of twelve PNG files, and a broken one."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i in range(12):
        image = Image.fromarray(random.integers(0, 256, (20, 31, 3), dtype=np.uint8))
        image.save(folder / "deep" / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def test_each_image_of_a_folder_gets_the_outputs_of_the_signature(
    exported, run_folder, photos, capsys
):
    answers = list(ask(exported, "classify", photos))
    assert "photos/broken.jpg: its content is no image" in capsys.readouterr().err
    assert sorted(answer.path.name for answer in answers) == sorted(f"{i}.png" for i in range(12))
    images = np.stack([answer.image for answer in answers])
    expected = keras_outputs(_load(run_folder, None), images / np.float32(255))["classify"]
    logits = np.stack([answer.outputs["logits"] for answer in answers])
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    best = [NAMES[i].encode() for i in expected["logits"].argmax(axis=1)]
    assert [answer.outputs["top_classes"][0] for answer in answers] == best


def test_photos_that_lie_on_their_side(exported, photos, tmp_path, capsys):
    paths = sorted(photos.rglob("*.png"))
    before = {path: path.read_bytes() for path in paths}
    found = orient(photos, exported, confidence=0.0, write=tmp_path / "upright")
    assert found and {path: path.read_bytes() for path in paths} == before
    assert "photos/broken.jpg: its content is no image" in capsys.readouterr().err
    for each in found:
        original = pathlib.Path(each["path"])
        copy = np.asarray(Image.open(tmp_path / "upright" / original.relative_to(photos)))
        turned = np.rot90(np.asarray(Image.open(original)), -each["turn"] // 90)
        np.testing.assert_array_equal(copy, turned)
    assert len(list((tmp_path / "upright").rglob("*.png"))) == len(found)
    sure = [each["confidence"] for each in found]
    assert sure == sorted(sure, reverse=True)
    call("orient", [str(photos), f"--model={exported}", "--confidence=1.0"])
    assert "0 images do not stand upright" in capsys.readouterr().out


def test_the_upright_copy_of_what_cannot_be_written_as_it_was_is_a_png(exported, photos, tmp_path):
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for path in photos.rglob("*.png"):
        np.save(arrays / path.stem, np.asarray(Image.open(path)))
    found = orient(arrays, exported, confidence=0.0, write=tmp_path / "upright")
    names = sorted(path.name for path in (tmp_path / "upright").iterdir())
    assert names and names == sorted(f"{pathlib.Path(each['path']).name}.png" for each in found)


def test_originals_are_never_written_over(exported, photos, tmp_path):
    (tmp_path / "upright").mkdir()
    (tmp_path / "upright" / "mine.png").touch()
    for write, complaint in (
        (photos / "upright", "lie within each other"),
        (tmp_path, "lie within each other"),
        (tmp_path / "upright", "is not empty"),
    ):
        with pytest.raises(ValueError, match=complaint):
            orient(photos, exported, write=write)
    with pytest.raises(ValueError, match="No exported model in"):
        orient(photos, tmp_path)
    with pytest.raises(ValueError, match="No folder"):
        orient(tmp_path / "none", exported)


@pytest.mark.slow
def test_outliers_come_first(run_folder, exported, tmp_path, capsys):
    """The ranking is by the model's own error, which flat images of different greys differ in."""
    for i in range(4):
        flat = np.full((16, 16, 3), 60 * i, dtype=np.uint8)
        Image.fromarray(flat).save(tmp_path / f"{i}.png")
    call("outliers", [str(tmp_path), f"--model={exported}", f"--sheet={tmp_path / 'sheet.png'}"])
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[0]) for line in lines[:4]]
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1]
    images = np.stack([np.asarray(Image.open(line.split()[1])) for line in lines[:4]])
    outputs = keras_outputs(_load(run_folder, None), images / np.float32(255))
    np.testing.assert_allclose(errors, outputs["reconstruct"]["reconstruction_error"], atol=1e-4)
    assert Image.open(tmp_path / "sheet.png").width > 300
    encoder_only = export(run_folder / "encoder.keras", tmp_path / "out", check=False)
    with pytest.raises(ValueError, match="has no reconstruct, only"):
        call("outliers", [str(tmp_path), f"--model={encoder_only}"])
