"""The search: its ranges, its command, failed trials, and an interrupted search."""

import json
import shlex

import pytest
from PIL import Image

from sit_keras.cli.run_settings import resolve
from sit_keras.cli.train import COMMAND
from sit_keras.config.choices import PARAMETERS
from sit_keras.config.presets import run_config
from sit_keras.config.serialization import changed
from sit_keras.training.guards import Stopped
from sit_keras.workflows import pretrain, tune
from sit_keras.workflows.search_space import chosen_changes, search_space
from sit_keras.workflows.tune import command, score

TINY = changed(
    run_config("digits"),
    {
        "model.image_size": 8, "model.patch_size": 4, "model.hidden_dim": 16,
        "model.num_layers": 2, "model.num_heads": 2, "model.mlp_dim": 16,
        "model.projection_dim": 8, "epochs": 2, "warmup_epochs": 1, "steps_per_epoch": 4,
    },
)  # fmt: skip


def test_a_point_of_the_space_stands_for_settings():
    space = search_space(TINY, PARAMETERS)
    assert {"learning_rate", "corruption.drop", "weighting"} <= set(space.values)
    values = {
        **space.values, "learning_rate": 0.0123456, "model.drop_path_rate": 0.25,
        "weighting": "fixed", "weight of rotation": 2.0, "weight of contrastive": 0.123456,
        "weight of reconstruction": 1.0, "tuner/epochs": 1, "tuner/bracket": 0,
    }  # fmt: skip
    config = changed(TINY, chosen_changes(TINY, values))
    assert (config.learning_rate, config.model.drop_path_rate) == (0.01235, 0.25)
    assert config.task_weights == (1.0, 2.0, 0.1235)  # in the order of the tasks
    assert (config.epochs, config.warmup_epochs) == (1, 0)
    learned = changed(config, chosen_changes(config, {"weighting": "uncertainty"}))
    assert (learned.weighting, learned.task_weights) == ("uncertainty", None)
    assert set(search_space(TINY, ["temperature"]).values) == {"temperature"}


def settings_of(command):
    """The settings of the run that a command trains."""
    _, arguments = command.split(" train ")
    return resolve(COMMAND.parse(shlex.split(arguments)))


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_the_command_trains_with_the_settings_of_the_trial(weighting):
    values = {
        **search_space(TINY, PARAMETERS).values, "weighting": weighting, "temperature": 0.3333333,
        **{f"weight of {task}": 0.7 for task in TINY.tasks},
    }  # fmt: skip
    changes = chosen_changes(TINY, values)
    assert settings_of(command(TINY, changes)) == changed(TINY, changes)


def test_impossible_searches_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="Unknown parameter 'colour': choose one of learning_rate"):
        tune.tune(TINY, tmp_path / "a", parameters=["colour"])
    with pytest.raises(ValueError, match="Nothing to search"):
        tune.tune(TINY, tmp_path / "a", parameters=[])
    with pytest.raises(ValueError, match="needs labelled images that are held out.*holdout=0.0"):
        tune.tune(changed(TINY, {"holdout": 0.0}), tmp_path / "a")
    with pytest.raises(ValueError, match="Unknown search 'grid'"):
        tune.tune(TINY, tmp_path / "a", search="grid")
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_a_stopped_search_goes_on_and_reports_failed_trials(tmp_path, monkeypatch, capsys):
    """It is stopped in the second of four trials, and the fourth fails."""

    def search():
        return tune.tune(TINY, tmp_path / "search", trials=4, parameters=["learning_rate"])

    begun = []

    def pretrain_once(config, run_dir, *arguments):
        begun.append(run_dir.name)
        if len(begun) == 2:
            raise Stopped("Stopped by SIGTERM.")
        if run_dir.name == "3":
            raise ArithmeticError("The loss was nan.")
        return pretrain.pretrain(config, run_dir, *arguments)

    monkeypatch.setattr(tune, "pretrain", pretrain_once)
    with pytest.raises(Stopped, match="SIGTERM"):
        search()
    first = tmp_path / "search" / "trials" / "0" / "results.json"
    when = first.stat().st_mtime_ns
    results = search()
    assert begun == ["0", "1", "1", "2", "3"]
    assert first.stat().st_mtime_ns == when
    out = capsys.readouterr().out
    assert "failed  trial 3" in out and "The loss was nan." in out
    assert results["trials"][3]["score"] is None
    scores = [trial["score"] for trial in results["trials"][:3]]
    assert results["best"]["score"] == max(scores)
    assert results["best"]["command"] in out
    best = results["best"]["trial"]
    assert out.count(" (best)") == 1 and f"trial {best} (best)  learning_rate=" in out
    (line,) = (tmp_path / "search" / "best.txt").read_text().splitlines()
    assert line.startswith(f"Trial {best} is the best: ") and line.endswith(f"trials/{best}.")
    assert "[trial 0, 1 of 4]" in out and "[trial 2, 3 of 4, ETA " in out
    assert json.loads((tmp_path / "search" / "results.json").read_text()) == results
    assert Image.open(tmp_path / "search" / "tuning.png").width > 300

    begun.clear()
    assert search() == results and not begun
    with pytest.raises(ValueError, match="holds results of other settings .trials: 4 -> 5"):
        tune.tune(TINY, tmp_path / "search", trials=5, parameters=["learning_rate"])

    config = settings_of(results["best"]["command"])
    pretrain.pretrain(config, tmp_path / "again")
    assert score(tmp_path / "again", config) == results["best"]["score"]
    linear = score(tmp_path / "again", config, "linear")
    assert 0 < linear <= 1 and score(tmp_path / "again", config, "linear") == linear


@pytest.mark.slow
@pytest.mark.parametrize("search", ["bayesian", "hyperband"])
def test_bayesian_search_and_hyperband_run_their_trials(search, tmp_path, monkeypatch):
    """The oracles are KerasTuner's; the test is that they are given and read what they need."""
    epochs = []

    def train(config, run_dir, *_):
        epochs.append(config.epochs)

    monkeypatch.setattr(tune, "pretrain", train)
    monkeypatch.setattr(
        tune, "score", lambda run_dir, config, *_: config.learning_rate + config.epochs
    )
    config = changed(run_config("digits"), {"epochs": 9})
    results = tune.tune(config, tmp_path, search, 5, ["learning_rate", "task_weights"])
    assert len(results["trials"]) == (5 if search == "bayesian" else len(epochs)) > 3
    assert (set(epochs) == {9}) == (search == "bayesian") and max(epochs) == 9


def test_a_search_whose_trials_all_fail_is_an_error(tmp_path, monkeypatch):
    def fail(*_):
        raise ArithmeticError("The loss was nan.")

    monkeypatch.setattr(tune, "pretrain", fail)
    with pytest.raises(
        ValueError, match="Every trial failed, the last one with:.*The loss was nan"
    ):
        tune.tune(TINY, tmp_path / "search", trials=4)
