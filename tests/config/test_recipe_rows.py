"""Which rows a comparison of recipes has, how they are written, and which of them are refused."""

import pytest

from sit_keras.config.presets import run_config
from sit_keras.config.recipe_rows import Row, chosen, read_row, rows_of
from sit_keras.config.serialization import changed

RECIPES = {
    "paper": {},
    "modern": {"temperature": 0.2, "corruption.drop": 0.1, "corruption.replace": 0.2},
}


def test_each_option_is_alone_on_paper_and_left_out_of_modern_once():
    rows = {row.name: row.changes for row in rows_of("options", RECIPES)}
    weak = {"corruption.drop": 0.1, "corruption.replace": 0.2}
    assert rows == {
        "paper": {},
        "paper with temperature": {"temperature": 0.2},
        "paper with drop + replace": weak,  # settings that say the same are one option
        "modern without temperature": weak,
        "modern without drop + replace": {"temperature": 0.2},
        "modern": RECIPES["modern"],
    }


def test_the_only_option_is_not_left_out_of_modern_which_would_be_paper():
    rows = rows_of("options", {"paper": {}, "modern": {"temperature": 0.2}})
    assert [row.name for row in rows] == ["paper", "paper with temperature", "modern"]


def test_every_choice_of_tasks_is_compared_under_both_recipes():
    rows = rows_of("tasks", RECIPES)
    assert len(rows) == len({row.name for row in rows}) == 2 * 8
    configs = {row.name: changed(run_config("digits"), row.changes) for row in rows}
    one = configs["modern: rotation"]
    assert (one.tasks, one.weighting, one.temperature) == (("rotation",), "fixed", 0.2)
    assert configs["paper: all tasks with learned weights"].weighting == "uncertainty"
    assert configs["paper: all tasks"].weighting == "fixed"


@pytest.mark.parametrize(
    ("text", "name", "changes"),
    [
        ("hot: temperature=0.5", "hot", {"temperature": "0.5"}),
        ("hot: modern temperature=0.5", "hot", {**RECIPES["modern"], "temperature": "0.5"}),
        ("a:b c: views.crop_area=0.2,1", "a:b c", {"views.crop_area": "0.2,1"}),
        ("as it is:", "as it is", {}),
        ("as it is: paper", "as it is", {}),
    ],
)
def test_a_row_is_a_name_with_recipes_and_settings_of_which_later_ones_count(text, name, changes):
    assert read_row(text, RECIPES) == Row(name, changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hot", "A row is NAME: and its settings.*received 'hot'"),
        ("hot: modem", "'modem' in the row .* is neither NAME=VALUE nor a recipe.*paper, modern"),
        ("a,b: modern", "a name without commas, received 'a,b'"),
        (": modern", "a name without commas, received ''"),
        ("hot: seed=3", "seed of the row 'hot' follow from the comparison"),
        ("hot: epochs=3 dataset=digits", "epochs, dataset of the row 'hot'"),
        ("hot: recipe=modern", "recipe of the row 'hot'"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_row(text, RECIPES)


def test_rows_are_chosen_by_name_in_their_own_order():
    rows = [Row("a", {}), Row("b", {}), Row("modern", {})]
    assert chosen(rows) == rows
    assert [row.name for row in chosen(rows, ["b", "a"])] == ["a", "b"]
    with pytest.raises(ValueError, match="no row 'moderm': did you mean 'modern'"):
        chosen(rows, ["moderm"])
    with pytest.raises(ValueError, match="no row 'xyz': there are a, b, modern"):
        chosen(rows, ["xyz"])
    with pytest.raises(ValueError, match="Two rows have the name a"):
        chosen([*rows, Row("a", {"temperature": 1.0})])
