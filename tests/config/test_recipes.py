"""A recipe changes the settings of a preset, and what is given changes those of both."""

import dataclasses
import json

import pytest

from sit_keras.cli.run_settings import resolve
from sit_keras.cli.train import COMMAND
from sit_keras.config.network import NetworkConfig
from sit_keras.config.presets import presets, run_config
from sit_keras.config.recipes import RECIPES
from sit_keras.config.serialization import differences, flat, from_dict, to_dict
from sit_keras.config.settings import RunConfig, ViewConfig
from sit_keras.runs.folder import run_name
from sit_keras.workflows.tables import plan

SIZES = {field.name for field in dataclasses.fields(NetworkConfig)} - {
    "drop_path_rate", "layer_norm_epsilon", "stem", "projection_layers", "projection_norm",
}  # fmt: skip


@pytest.mark.parametrize("preset", presets())
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_changes_what_it_names_and_nothing_else(preset, recipe):
    start, config = run_config(preset), run_config(preset, recipe=recipe)
    changed = {name for name, value in flat(config).items() if value != flat(start)[name]}
    assert changed - {"recipe"} <= set(RECIPES[recipe])
    assert all(flat(config)[name] == value for name, value in RECIPES[recipe].items())
    assert config.recipe == recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_leaves_the_sizes_of_the_network_alone(recipe):
    assert not {name.removeprefix("model.") for name in RECIPES[recipe]} & SIZES


def test_the_papers_recipe_is_what_a_preset_is_without_one():
    assert RECIPES["paper"] == {}
    assert run_config("native32", recipe="paper") == run_config("native32")
    old = {name: value for name, value in to_dict(RunConfig()).items() if name != "recipe"}
    assert from_dict(RunConfig, old).recipe == "paper"  # of a run from before there were recipes


def test_settings_count_before_the_recipe_and_the_recipe_before_the_preset(monkeypatch):
    monkeypatch.setitem(RECIPES, "mine", {"model.drop_path_rate": 0.05, "epochs": 7})
    config = run_config("digits", recipe="mine")
    assert (config.epochs, config.model.drop_path_rate, config.batch_size) == (7, 0.05, 64)
    config = run_config("digits", {"drop_path_rate": 0.3}, recipe="mine", epochs=9)
    assert (config.epochs, config.model.drop_path_rate, config.model.hidden_dim) == (9, 0.3, 64)
    assert run_config("digits", recipe="modern", views=ViewConfig()).views == ViewConfig()


def resolved(*arguments):
    return resolve(COMMAND.parse(["--dataset=cifar10", "--preset=native32", *arguments]))


def test_the_flag_changes_the_preset_and_other_flags_change_the_recipe():
    assert resolved() == run_config("native32", dataset="cifar10")
    modern = resolved("--recipe=modern")
    assert modern == run_config("native32", recipe="modern", dataset="cifar10")
    own = resolved("--recipe=modern", "--temperature=0.4", "--set=views.turned_every=None")
    assert differences(modern, own) == [
        "views.turned_every: 4 -> None", "temperature: 0.2 -> 0.4",
    ]  # fmt: skip
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(modern)))) == modern


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="Unknown recipe 'new': choose one of paper, modern"):
        run_config("digits", recipe="new")
    with pytest.raises(ValueError, match="recipe: value should be one of <paper|modern>"):
        resolved("--recipe=new")
    with pytest.raises(ValueError, match="and not the settings: use --recipe=modern"):
        resolved("--set=recipe=modern")


def test_the_name_of_a_run_has_a_recipe_that_is_not_the_papers():
    tasks = "reconstruction+rotation+contrastive"
    modern = run_config("digits", recipe="modern")
    assert run_name(run_config("digits")) == "digits-digits-seed0"
    assert run_name(modern) == "digits-digits-modern-seed0"
    learned = dataclasses.replace(modern, weighting="uncertainty")
    assert run_name(learned) == f"digits-digits-modern-{tasks}-uncertainty-seed0"
    fixed = run_config("digits", weighting="fixed")
    assert run_name(fixed) == f"digits-digits-{tasks}-fixed-seed0"


@pytest.mark.parametrize("options", [{}, {"min_task_weight": 0.2, "subtract_loss_floor": True}])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_rows_of_an_ablation_are_different_runs_of_every_recipe(recipe, options):
    config = run_config("native32", recipe=recipe, dataset="cifar10", weighting="uncertainty")
    rows = plan("ablation", [dataclasses.replace(config, **options)])
    names = {run_name(row.pretraining) for row in rows}
    assert len(rows) == 9 and len(names) == 8  # the first row takes new weights, of no run
    learned = rows[-1].pretraining
    assert [getattr(learned, name) for name in options] == list(options.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weighting": "fixed", "min_task_weight": 0.2},
         "min_task_weight=0.2 is for weights that are learned"),
        ({"weighting": "fixed", "subtract_loss_floor": True}, "leave it at False, or use"),
        ({"weight_decay": 0.0, "weight_decay_end": 0.4}, "needs a weight_decay above 0"),
        ({"batch_size": 50, "views": ViewConfig(turned_every=4)},
         "batch_size of 50 is no multiple of views.turned_every=4: use 52 images"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_exclude_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        run_config("digits", **changes)
