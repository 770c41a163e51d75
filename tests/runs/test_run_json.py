"""The JSON of a run: what is read, and what a broken file leads to."""

import json

import pytest

from sit_keras.config.presets import run_config
from sit_keras.runs.cached_step import cached_step
from sit_keras.runs.folder import read_settings, write_settings
from sit_keras.runs.results import finished_results

RESULTS = {"steps": 3, "train_seconds": 0.1, "losses": {"loss": 1.0}}
BROKEN = ["", "{", "[]", "null", "{}", '"a"', '{"steps": 3}', '{"losses": {}}']


@pytest.mark.parametrize("text", BROKEN)
def test_a_run_with_broken_results_is_neither_finished_nor_lost(text, tmp_path):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="results.json should hold .* Remove that file and give"):
        finished_results(tmp_path)


def test_a_run_is_finished_when_its_results_are_there(tmp_path):
    assert finished_results(tmp_path) is None
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    assert finished_results(tmp_path) == RESULTS


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(epochs=None),
        lambda values: values.update(epochs="many"),
        lambda values: values.update(epochs=[1]),
        lambda values: values.update(model=None),
        lambda values: values.update(model=[1]),
        lambda values: values.update(views={"crop": {}}),
        lambda values: values.update(unknown=1),
        lambda values: values.update(tasks={"rotation": 1}),
    ],
)
def test_settings_of_another_kind_are_refused_by_the_name_of_their_file(change, tmp_path):
    write_settings(tmp_path, run_config("digits"))
    assert read_settings(tmp_path) == run_config("digits")
    values = json.loads((tmp_path / "config.json").read_text())
    change(values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="config.json should hold the values of a RunConfig, but"):
        read_settings(tmp_path)


@pytest.mark.parametrize("name", ["settings.json", "results.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_step_with_a_broken_file_says_what_to_remove(name, text, tmp_path):
    cached_step(tmp_path, {"k": 1}, lambda folder: {"accuracy": 0.5})
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} should hold .* Remove that file, or the folder"):
        cached_step(tmp_path, {"k": 1}, lambda folder: {"accuracy": 0.5})
