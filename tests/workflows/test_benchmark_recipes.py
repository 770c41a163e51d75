"""Recipes are compared at an equal budget, failures are named, and finished work is kept."""

import json
import time

import numpy as np
import pytest
from run_case import TINY, same_weights

from sit_keras.cli.main import call
from sit_keras.config.recipe_rows import Row
from sit_keras.config.serialization import changed
from sit_keras.runs.folder import read_settings
from sit_keras.workflows import recipe_budget, recipe_table
from sit_keras.workflows.benchmark_recipes import benchmark_recipes

SMALL = changed(TINY, {"batch_size": 16, "holdout": 0.0})  # 1,437 images: 89 steps an epoch


# --- The budget -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "epochs", "per_epoch"),
    [
        (7, 7, 1),  # an epoch has a step at least
        (100, 20, 5),
        (119, 20, 5),  # never more steps than the budget holds
        (89 * 20, 20, 89),
        (89 * 30, 30, 89),  # an epoch cannot have more steps than there are images for
    ],
)
def test_a_schedule_fits_its_steps(steps, epochs, per_epoch):
    run = recipe_budget.scheduled(SMALL, steps)
    assert (run.epochs, run.steps_per_epoch) == (epochs, per_epoch)
    assert run.epochs * run.steps_per_epoch <= steps
    assert (run.sheet_every, run.measure_every) == (epochs, epochs)


def test_the_warm_up_keeps_its_share_of_the_epochs():
    half = changed(SMALL, {"epochs": 40, "warmup_epochs": 20})
    assert recipe_budget.scheduled(half, 100).warmup_epochs == 10
    little = changed(SMALL, {"epochs": 500, "warmup_epochs": 5})
    assert recipe_budget.scheduled(little, 100).warmup_epochs == 1
    none = changed(SMALL, {"warmup_epochs": 0})
    assert recipe_budget.scheduled(none, 100).warmup_epochs == 0


def test_a_budget_below_a_step_is_refused():
    with pytest.raises(ValueError, match="does not hold a single step"):
        recipe_budget.scheduled(SMALL, 0)


def test_the_clock_counts_the_processor_time_within_steps_after_those_that_compile(tmp_path):
    def work(seconds):
        begin = time.process_time()
        while time.process_time() - begin < seconds:
            pass

    path = tmp_path / "clock.json"
    clock = recipe_budget.StepClock(path)
    for step in range(recipe_budget.COMPILING + 4):
        clock.on_train_batch_begin(step)
        work(0.2 if step < recipe_budget.COMPILING else 0.01)
        time.sleep(0.01)  # others have the processor
        clock.on_train_batch_end(step)
        work(0.05)  # between the steps
    clock.on_epoch_end(0)
    assert clock.steps == 4 and 0.01 <= clock.seconds_per_step < 0.02
    assert recipe_budget.StepClock(path).seconds_per_step == clock.seconds_per_step
    assert recipe_budget.StepClock().seconds_per_step is None


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Give a budget or a number of images"),
        ({"budget": 1.0, "images": 5}, "Give a budget or a number of images"),
        ({"budget": 0.0}, "The budget must be positive, received 0.0"),
        ({"images": 0}, "images must be positive, received 0"),
        ({"images": 64, "judge": 1}, "judge must be at least 2 images, received 1"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        benchmark_recipes(SMALL, [Row("paper", {})], tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def recipes(monkeypatch):
    """Recipes of two options, whatever those of the package are."""
    own = {"paper": {}, "modern": {"temperature": 0.2, "clip_norm": 1.0}}
    monkeypatch.setattr("sit_keras.cli.benchmark_recipes.RECIPES", own)


def test_the_rows_are_listed_with_what_they_change(recipes, capsys):
    call("benchmark-recipes", ["--list"])
    assert capsys.readouterr().out.splitlines() == [
        "paper: the preset as it is",
        "paper with temperature: temperature=0.2",
        "paper with clip_norm: clip_norm=1.0",
        "modern without temperature: clip_norm=1.0",
        "modern without clip_norm: temperature=0.2",
        "modern: temperature=0.2, clip_norm=1.0",
    ]
    call("benchmark-recipes", ["--list", "--row=hot: modern temperature=1", "--row=b:", "--rows=b"])
    assert capsys.readouterr().out == "b: the preset as it is\n"


def test_two_budgets_are_refused_before_anything_is_loaded(recipes):
    with pytest.raises(ValueError, match="Give --budget or --images, not both"):
        call("benchmark-recipes", ["--budget=5", "--images=5"])


# --- Whole comparisons ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_comparison_ends_with_a_table_goes_on_where_it_was_cut_off_and_takes_more_rows(
    tmp_path, capsys
):
    output = tmp_path / "recipes"
    rows = [
        Row("paper", {}),
        Row("broken", {"model.patch_size": 5}),
        Row("cold", {"temperature": "0.1"}),
    ]
    call_it = dict(output=output, images=16 * 12, judge=200)
    found = benchmark_recipes(SMALL, rows[:2], **call_it)
    assert [each["row"] for each in found] == ["paper", "broken", "raw pixels", "untrained"]
    assert "divisible by patch_size" in found[1]["error"]
    run_dir = output / "runs" / "paper-seed0"
    config = read_settings(run_dir)
    assert config.epochs * config.steps_per_epoch == 12 and config.holdout == 0
    assert found[0]["steps"] == 12 and found[0]["cpu_seconds"] > 0
    judged = found[0]["knn"]
    assert np.mean(recipe_table.unpacked(judged["right"], 100)) == pytest.approx(judged["accuracy"])
    assert "broken, seed 0, failed" in capsys.readouterr().out

    # As if it had been killed before the last step was saved.
    whole = json.loads((run_dir / "judged" / "results.json").read_text())
    last = max((run_dir / "checkpoints").glob("ckpt-*.npz"), key=lambda path: path.stat().st_mtime)
    for path in (
        last,
        run_dir / "results.json",
        run_dir / "judged" / "results.json",
        output / recipe_table.RECORDS,
    ):
        path.unlink()
    again = benchmark_recipes(SMALL, [rows[0], rows[2]], **call_it)
    assert [each["row"] for each in again] == ["paper", "cold", "raw pixels", "untrained"]
    assert {name: again[0][name] for name in ("knn", "linear")} == whole
    assert not same_weights(run_dir, output / "runs" / "cold-seed0")
    with pytest.raises(ValueError, match="another comparison .images: 192 -> 320"):
        benchmark_recipes(SMALL, rows, **{**call_it, "images": 320})


@pytest.mark.slow
def test_a_row_whose_step_costs_more_gets_fewer_steps(tmp_path):
    rows = [Row("small", {}), Row("large", {"batch_size": 128})]
    small, large = benchmark_recipes(SMALL, rows, tmp_path, budget=3.0, judge=100)[:2]
    assert 1 <= large["steps"] < small["steps"]
    for record in (small, large):
        assert 1.0 < record["cpu_seconds"] < 6.0  # measured again while it trained
    costs = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("cost/*/results.json"))]
    assert costs[0]["seconds"] > costs[1]["seconds"]  # large, then small
