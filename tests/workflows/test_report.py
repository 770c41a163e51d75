"""Every picture of a run, and one page of them that loads nothing else."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.presets import run_config
from sit_keras.config.settings import CorruptionConfig
from sit_keras.data.pipeline import step_views
from sit_keras.data.sources import load_source
from sit_keras.plots import charts, image_grids
from sit_keras.runs.folder import write_settings
from sit_keras.runs.log import read_log
from sit_keras.workflows import pictures
from sit_keras.workflows.evaluate import evaluate
from sit_keras.workflows.report import report, write_report

PICTURES = {
    "curves", "corruptions", "reconstructions", "rotations", "attention-rotation",
    "attention-contrastive", "patches", "feature_map", "neighbours",
}  # fmt: skip
SHORT = ("--epochs=2", "--steps_per_epoch=2", "--set=warmup_epochs=0", "--batch_size=16")


def check_pictures(run, expected):
    found = {path.stem for path in (run / "pictures").glob("*.png")}
    assert found == expected
    for name in found:
        pixels = np.asarray(Image.open(run / "pictures" / f"{name}.png").convert("RGB"))
        assert pixels.std() > 2, name  # it is not blank
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=['\"](?!data:|#)", page)  # nothing is loaded
    sections = set(re.findall("<section id='([^']+)'", page))
    assert {*(name for name in expected if name != "feature_map"), "map", "sheets"} <= sections
    return page


@pytest.mark.slow
def test_the_report_of_a_run_has_its_baselines_evaluations_pictures_and_settings(
    tmp_path, call_train, capsys
):
    run = tmp_path / "run"
    call_train(*SHORT, f"--run_dir={run}")
    evaluate(run)
    evaluate(run, protocol=("knn",), image_size=24)
    (run / "evaluation" / "other").mkdir()
    results = json.loads((run / "evaluation" / "digits" / "results.json").read_text())
    other = {**results, "fingerprint": "of another epoch"}
    (run / "evaluation" / "other" / "results.json").write_text(json.dumps(other))
    assert report(str(run)) == run / "report.html"
    page = check_pictures(run, PICTURES)
    title = "Evaluation: digits, {} px, 1,437 training and 360 test images<"
    assert title.format("16 x 16") in page and "20 neighbours" in page and "effective rank" in page
    assert title.format("24 x 24") in page and "always the largest class" in page
    assert page.count("<h2>Evaluation") == 2 and "144 held-out images" in page
    assert page.count("Linear evaluation, class by class") == 1
    assert "Compared with what needs no training" in page and "linear probe" in page
    assert "which are too few" in page and "lower is better; untrained" in page
    assert "learning_rate" in page and "epochs" in page
    assert str(run / "report.html") in capsys.readouterr().out
    card = (run / "model_card.md").read_text()
    assert "1,293 images of digits" in card and "a linear probe" in card

    logged = {}
    for folder in (run / "tensorboard").iterdir():
        events = EventAccumulator(str(folder))
        events.Reload()
        logged[folder.name] = events
    assert set(logged["pictures"].Tags()["tensors"]) == PICTURES
    assert logged["sheets"].Tags()["tensors"] == ["sheet"]
    shown = {tag.removeprefix("epoch_") for tag in logged["train"].Tags()["tensors"]}
    measured = {name for name in read_log(run / "log.csv") if not name.startswith("val_")}
    assert measured - {"epoch"} <= shown

    (run / "results.json").unlink()  # as of a run that was interrupted
    (run / "network.keras").unlink()
    shutil.rmtree(run / "pictures")
    report(run)
    check_pictures(run, PICTURES - {"reconstructions", "rotations"})


@pytest.mark.slow
def test_the_report_of_one_task_on_twenty_greyscale_photos_without_labels(tmp_path, call_train):
    photos = tmp_path / "photos"
    photos.mkdir()
    digits = load_source("digits").train
    for i, pixels in enumerate(digits.items[:20]):
        size = (30 + i, 40)
        Image.fromarray(pixels).convert("L").resize(size).save(photos / f"{i}.png")
    run = tmp_path / "run"
    call_train(
        *SHORT,
        f"--dataset=folder:{photos}",
        "--preset=digits",
        "--tasks=contrastive",
        "--weighting=fixed",
        "--holdout=0",
        f"--run_dir={run}",
    )
    moved = photos.rename(tmp_path / "moved <b>&'")
    report(run, f"folder:{moved}")
    page = check_pictures(run, PICTURES - {"reconstructions", "rotations"})
    assert "log(alpha)" not in page  # the weights are fixed
    assert "Training images and their nearest" in page


def test_names_of_folders_are_no_markup_in_the_page_and_name_no_owner(tmp_path):
    hostile = "a|b`<img src=x>[x](y)\n# z&\"'"
    config = dataclasses.replace(
        run_config("digits"),
        dataset=f"folder:{tmp_path / hostile}",
        initial_encoder=f"{tmp_path / hostile}",
    )
    run = tmp_path / "run"
    run.mkdir()
    write_settings(run, config)
    (run / "log.csv").write_text("epoch,loss\n0,1.5\n")
    page = write_report(run, []).read_text(encoding="utf-8")
    assert str(tmp_path) not in page and tmp_path.name not in page
    assert "<img" not in page and "folder:a|b`&lt;img src=x&gt;[x](y)" in page
    assert page.count("&lt;img") >= 4  # the title, the heading, and the two settings


def test_the_page_of_a_finished_run_begins_with_its_answer(tmp_path):
    write_settings(tmp_path, run_config("digits"))
    (tmp_path / "log.csv").write_text("epoch,rotation_accuracy\n0,0.25\n")
    assert "In short" not in write_report(tmp_path, []).read_text("utf-8")  # it goes on
    results = {"steps": 20, "train_seconds": 1, "losses": {}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = write_report(tmp_path, []).read_text("utf-8")  # of an earlier version
    assert "In short" in page and "trained for 20 steps, which are too few" in page
    results["answer"] = ["Always answering <b> is right on 3 %."]
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = write_report(tmp_path, []).read_text("utf-8")
    assert "answering &lt;b&gt; is" in page and "too few" not in page
    assert page.index("In short") < page.index("<h2>Contents")


@pytest.mark.parametrize("text", ['{"accuracy": 1}', "[]", ""])
def test_a_file_that_is_no_evaluation_is_refused_by_its_name(tmp_path, text):
    write_settings(tmp_path, run_config("digits"))
    (tmp_path / "log.csv").write_text("epoch,loss\n0,1.5\n")
    folder = tmp_path / "evaluation" / "digits"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(text)
    with pytest.raises(ValueError, match="should hold the results of an evaluation, but it"):
        write_report(tmp_path, [])


def test_one_kind_of_corruption_is_the_same_alone_and_in_all(tmp_path, monkeypatch):
    """If it is the only kind, its row in the gallery is the row of all."""
    rows = {}
    monkeypatch.setattr(
        pictures.image_grids, "corruption_gallery", lambda stages, *_: rows.update(stages)
    )
    config = CorruptionConfig(grey=False, blur=False, drop=0.3, replace=0.0)
    two_views = TwoViews(16, corruption=config, seed=4)
    images = load_source("digits").train
    views = next(iter(step_views(images, two_views, 8, 0, 1)))
    pictures._corruptions(two_views, views, tmp_path)
    assert list(rows) == ["clean", "drop", "all"]
    np.testing.assert_array_equal(rows["drop"], rows["all"])
    assert np.abs(rows["drop"] - rows["clean"]).max() > 0.1


def test_names_of_classes_are_shown_as_they_are(tmp_path, random, monkeypatch):
    names = ("_misc", "price $5_$ a", r"a$\frac$b")
    labels = np.arange(30) % 3
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (figures.append(f), save(f, *a, **k)))
    charts.feature_map(random.normal(size=(30, 2)), labels, names, tmp_path / "map.png")
    charts.confusion_sheet(np.eye(3, dtype=int), names, tmp_path / "confusion.png")
    legend = figures[0].legends[0].get_texts()
    for texts in (legend, figures[1].axes[0].get_xticklabels()):
        assert [text.get_text() for text in texts] == list(names)
        assert not any(text.get_parse_math() for text in texts)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grids_show_the_pixels_before_they_were_normalised(
    tmp_path, random, monkeypatch, channels
):
    mean, std = (0.1, 0.2, 0.3)[:channels], (0.5, 0.6, 0.7)[:channels]
    preprocessing = PreprocessingConfig(mean=mean, std=std)
    pixels = random.random((4, 8, 8, channels))
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    normalised = (pixels - mean) / std
    image_grids.reconstruction_sheet(
        normalised, normalised, None, np.zeros(4, int), np.array([0, 1, 0, 0]),
        tmp_path / "sheet.png", preprocessing,
    )  # fmt: skip
    (figure,) = figures
    for axes, expected in zip(figure.axes, [*pixels, *pixels], strict=True):
        (image,) = axes.images
        shown = np.reshape(image.get_array(), expected.shape)
        np.testing.assert_allclose(shown, expected, atol=1e-6)
        assert image.get_cmap().name == "gray" and image.get_clim() == (0, 1)
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        "0°, predicted 0°", "0°, predicted 90°",
    ]  # fmt: skip


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No run at"):
        report(tmp_path)
