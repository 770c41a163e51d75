"""Runs on images of other than three channels, from training to a verified export."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from bands_case import BANDS, SIDE, bands_of_class, write_bands, write_grey
from run_case import TINY

from sit_keras.config.recipe_rows import Row
from sit_keras.data.reading import read_image
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.folder import read_settings
from sit_keras.serving.export import export, verify_export
from sit_keras.workflows.benchmark_recipes import benchmark_recipes
from sit_keras.workflows.embed import embed
from sit_keras.workflows.evaluate import evaluate
from sit_keras.workflows.pretrain import pretrain
from sit_keras.workflows.report import report
from sit_keras.workflows.tables import make_table

pytestmark = pytest.mark.slow


def settings(folder, channels):
    return dataclasses.replace(
        TINY,
        dataset=f"folder:{folder}",
        model=dataclasses.replace(TINY.model, channels=channels),
        batch_size=8,
        epochs=2,
        holdout=0.0,
    )


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """A folder of images of five bands, and a run on it."""
    place = tmp_path_factory.mktemp("five")
    images = write_bands(place / "images")
    pretrain(settings(images, BANDS), place / "run")
    return images, place / "run"


def test_five_bands_go_from_training_to_a_verified_export(five, tmp_path, capsys):
    images, run = five
    assert evaluate(run=run, protocol=("linear", "knn"), k=(1,))["test_images"] == 20
    index = embed(str(images), run, tmp_path / "index.npz")
    assert index.ok.all() and len(index) == 60
    version = export(run, tmp_path / "exports")
    assert "serving_default" in verify_export(version)
    report(run)
    assert "first three channels" in (run / "report.html").read_text("utf-8")


def test_the_measured_mean_and_deviation_travel_with_the_weights(five, tmp_path):
    images, run = five
    stated = read_settings(run).preprocessing
    items = np.concatenate([bands_of_class(label, 20, seed=len("train")) for label in (0, 1)])
    np.testing.assert_allclose(stated.mean, (items / 255).mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(stated.std, (items / 255).std(axis=(0, 1, 2)), atol=1e-4)
    assert SiTBackbone.from_preset(run).preprocessing == stated
    version = export(run, tmp_path / "exports", check=False)
    contract = json.loads((version / "assets" / "contract.json").read_text())
    assert contract["preprocessing"]["mean"] == list(stated.mean)
    assert contract["preprocessing"]["image_shape"] == [8, 8, BANDS]
    assert not any(name.endswith("_bytes") for name in contract["signatures"])
    assert f"images of {BANDS} channels" in (run / "model_card.md").read_text("utf-8")


def test_the_same_command_finds_the_finished_run_of_measured_channels(five, capsys):
    images, run = five
    pretrain(settings(images, BANDS), run)
    assert "finished already" in capsys.readouterr().out


def test_an_export_of_five_bands_answers_as_the_encoder_does(five, tmp_path):
    images, run = five
    file = next(images.rglob("*.tif"))
    pixels = read_image(file, channels=BANDS)[None].astype("float32") / 255
    assert pixels.shape == (1, SIDE, SIDE, BANDS)
    version = export(run, tmp_path / "exports", check=False)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](images=pixels)
    assert answer["ok"].numpy().all()
    index = embed(str(file.parent), run, tmp_path / "index.npz")
    row = [path.endswith(file.name) for path in index.paths].index(True)
    ours, theirs = answer["embedding"].numpy()[0], index.embeddings[row]
    np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs), atol=0.02)


def test_grey_pngs_go_from_training_to_a_verified_export_that_takes_files(tmp_path, capsys):
    images, run = write_grey(tmp_path / "images"), tmp_path / "run"
    pretrain(settings(images, 1), run)
    said = capsys.readouterr().out
    assert "Images have 1 channel." in said and "1 channels were measured on 40" in said
    assert evaluate(run=run, protocol=("linear",))["train_images"] == 32
    version = export(run, tmp_path / "exports")
    verified = verify_export(version)
    assert "serving_bytes" in verified
    functions = tf.saved_model.load(str(version)).signatures
    file = next(images.rglob("*.png"))
    pixels = read_image(file, channels=1)[None].astype("float32") / 255
    by_pixels = functions["serving_default"](images=pixels)["embedding"]
    by_file = functions["serving_bytes"](image_bytes=tf.constant([file.read_bytes()]))["embedding"]
    np.testing.assert_allclose(by_pixels, by_file, atol=1e-5)


def test_rows_of_settings_and_tables_are_made_of_five_bands_too(five, tmp_path):
    images, _ = five
    (of_row, of_pixels, untrained) = benchmark_recipes(
        settings(images, BANDS), [Row("paper", {})], tmp_path / "recipes", images=32, judge=20
    )
    for record in (of_row, of_pixels, untrained):
        assert 0 <= record["knn"]["accuracy"] <= 1
    table = make_table(
        "finetune",
        [f"folder:{images}"],
        "digits",
        output=tmp_path / "table",
        runs_dir=tmp_path / "runs",
        pretraining={"model.channels": BANDS, "epochs": 1, "batch_size": 8, "holdout": 0.0},
        training={"epochs": 1, "batch_size": 8},
    )
    assert len(table["entries"]) == 2
