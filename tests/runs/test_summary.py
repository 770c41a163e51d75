"""What is known of a run from its files, whatever is missing."""

import json

import pytest

from sit_keras.config.presets import run_config
from sit_keras.config.serialization import to_dict
from sit_keras.runs.summary import summarize

LOG = """epoch,contrastive,knn_accuracy,loss,rotation,rotation_accuracy,val_rotation
0,4.1,0.2,3.0,1.4,0.3,1.5
1,3.9,NA,2.0,0.9,0.6,1.1
"""
RESULTS = {
    "steps": 400, "train_seconds": 200.0, "timed_steps": 100, "losses": {"rotation": 0.9},
    "linear_accuracy": {"trained": 0.8, "untrained": 0.5, "pixels": 0.6},
    "knn_accuracy": {"trained": 0.7, "untrained": 0.4, "pixels": 0.3},
}  # fmt: skip


def write_run(folder, config=None, log=LOG, results=RESULTS, **changes):
    """Writes the files of a run; None leaves one out."""
    folder.mkdir(parents=True)
    config = config or {**to_dict(run_config("digits", **changes)), "versions": {"keras": "3"}}
    (folder / "config.json").write_text(json.dumps(config))
    if log is not None:
        (folder / "log.csv").write_text(log)
    if results is not None:
        text = results if isinstance(results, str) else json.dumps(results)
        (folder / "results.json").write_text(text)
    return folder


def test_a_finished_run_has_its_results(tmp_path):
    found = summarize(write_run(tmp_path / "run", batch_size=64))
    assert found.name == "run" and found.settings["batch_size"] == 64
    assert "versions.keras" not in found.settings and found.settings["views.crop_area"]
    results = found.results
    assert results["rotation"] == 1.1 and results["contrastive"] == 3.9  # held out, if there is one
    assert results["reconstruction"] is None and results["rotation_accuracy"] == 0.6
    assert (results["linear"], results["knn_untrained"]) == (0.8, 0.4)
    # It was interrupted: 100 of 400 steps of 64 images took the 200 seconds.
    assert results["images_per_second"] == 32.0 and results["hours"] == pytest.approx(800 / 3600)
    assert found.answer.startswith("+30.0 points over untrained, how sure is not known")


def test_an_unfinished_run_says_where_it_is(tmp_path):
    found = summarize(write_run(tmp_path / "run", results=None, epochs=50))
    assert found.answer == "not finished: epoch 2 of 50"
    assert found.results["linear"] is None and found.results["rotation"] == 1.1
    nothing = summarize(write_run(tmp_path / "new", results=None, log=None))
    assert nothing.answer == "no epoch has ended" and nothing.log == {}


def test_a_run_of_an_earlier_version_has_gaps(tmp_path):
    old = {"dataset": "digits", "epochs": 9, "batch": 32, "encoder": {"depth": 4}}
    found = summarize(write_run(tmp_path / "old", config=old))
    assert found.settings["encoder.depth"] == 4 and found.results["images_per_second"] is None
    assert found.answer == "of an earlier version, whose answer is not known"
    few = {"steps": 30, "linear_accuracy": 0.8, "train_seconds": "long"}
    found = summarize(write_run(tmp_path / "few", results=few))
    assert found.results["linear"] is None and found.results["hours"] is None
    assert "how sure" not in found.answer


@pytest.mark.parametrize("results", ["", "{", "[1]", "{}", "\x00"])
def test_results_that_cannot_be_read_are_said_to_be(tmp_path, results):
    assert summarize(write_run(tmp_path / "run", results=results)).answer == (
        "results.json cannot be read"
    )


def test_other_folders_are_no_runs(tmp_path):
    assert summarize(tmp_path) is None and summarize(tmp_path / "missing") is None
    (tmp_path / "config.json").write_text('{"name": "a preset"}')
    assert summarize(tmp_path) is None
    (tmp_path / "file").write_text("x")
    assert summarize(tmp_path / "file") is None


@pytest.mark.parametrize("best", [{"trial": "01"}, {"trial": "00"}, None, 3])
def test_the_best_trial_of_a_search_is_marked(tmp_path, best):
    search = tmp_path / "search"
    for name in ("00", "01"):
        write_run(search / "trials" / name)
    (search / "results.json").write_text(json.dumps({"best": best}))
    marks = [summarize(search / "trials" / name).best_of for name in ("00", "01")]
    chosen = best["trial"] if isinstance(best, dict) else None
    assert marks == ["search" if name == chosen else "" for name in ("00", "01")]
