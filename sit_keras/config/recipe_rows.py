"""The rows of a comparison of recipes: names with the settings that they change.

Standard library only.
"""

import dataclasses
import difflib
import itertools
import typing

from sit_keras.config.checks import TASKS, check_choice, require
from sit_keras.config.serialization import assignments

COMPARISONS = ("options", "tasks")
# Settings that are one option, since they say the same thing or mean nothing alone.
TOGETHER = (
    ("weighting", "task_weights"),
    ("model.projection_layers", "model.projection_norm"),
    ("views.jitter_probability", "views.hue", "views.greyscale_probability"),
    ("corruption.drop", "corruption.replace"),
    ("corruption.grey", "corruption.blur", "corruption.colour"),
)
# Settings that the comparison itself decides.
DECIDED = (
    "dataset", "preset", "recipe", "seed", "epochs", "steps_per_epoch", "holdout", "sheet_every",
    "measure_every",
)  # fmt: skip

# The settings of RunConfig that a recipe changes, by name as for `changed`.
Changes = dict[str, typing.Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a comparison.

    Args:
        name: str. What it is called in the table and on the command line.
        changes: the settings that differ from those of the preset, as for
            `sit_keras.config.serialization.changed`.
    """

    name: str
    changes: Changes

    def __post_init__(self):
        require(
            self.name and "," not in self.name and self.name == self.name.strip(),
            f"A row needs a name without commas, received {self.name!r}.",
        )
        decided = [name for name in self.changes if name in DECIDED]
        require(
            not decided,
            f"{', '.join(decided)} of the row {self.name!r} follow from the comparison, in which "
            "all rows have the same images and the same budget: leave them out.",
        )


def rows_of(comparison: str, recipes: dict[str, Changes]) -> list[Row]:
    """Returns the rows of one of `COMPARISONS`.

    Args:
        comparison: str. `options`: the paper's recipe, with each option of `modern` alone, `modern`
            without each of them, and `modern`. `tasks`: every choice of tasks with fixed weights,
            and all of them with learned ones, under both recipes.
        recipes: the changes of `paper` and of `modern`.
    """
    check_choice("compare", comparison, COMPARISONS)
    return _options(recipes) if comparison == "options" else _tasks(recipes)


def _options(recipes):
    paper, modern = recipes["paper"], recipes["modern"]
    options = {}
    for setting in modern:
        group = next((each for each in TOGETHER if setting in each), (setting,))
        names = [name for name in group if name in modern]
        options[" + ".join(name.rpartition(".")[2] for name in names)] = names
    rows = [Row("paper", paper)]
    for option, names in options.items():
        rows.append(Row(f"paper with {option}", paper | {name: modern[name] for name in names}))
    if len(options) > 1:
        for option, names in options.items():
            rest = {name: value for name, value in modern.items() if name not in names}
            rows.append(Row(f"modern without {option}", rest))
    return [*rows, Row("modern", modern)]


def _tasks(recipes):
    rows = []
    for recipe in ("paper", "modern"):
        for count in range(1, len(TASKS) + 1):
            for tasks in itertools.combinations(TASKS, count):
                fixed = {"tasks": tasks, "weighting": "fixed", "task_weights": None}
                what = "all tasks" if count == len(TASKS) else " + ".join(tasks)
                rows.append(Row(f"{recipe}: {what}", recipes[recipe] | fixed))
        learned = {"tasks": TASKS, "weighting": "uncertainty", "task_weights": None}
        rows.append(Row(f"{recipe}: all tasks with learned weights", recipes[recipe] | learned))
    return rows


def read_row(text: str, recipes: dict[str, Changes]) -> Row:
    """Returns the row that a text such as `hot: modern temperature=0.5` describes.

    Args:
        text: str. A name, a colon, and words with spaces between them: names of recipes, and
            settings as `NAME=VALUE`. Later words count.
        recipes: the changes of each recipe.

    Raises:
        ValueError: for a text without a colon, or an unknown recipe.
    """
    name, colon, rest = text.rpartition(": ")
    if text.endswith(":"):
        name, colon, rest = text[:-1], ":", ""
    if not colon:
        raise ValueError(
            "A row is NAME: and its settings, such as 'hot: modern temperature=0.5'; received "
            f"{text!r}."
        )
    changes: dict[str, str] = {}
    for word in rest.split():
        if "=" in word:
            changes |= assignments([word])
        elif word in recipes:
            changes |= recipes[word]
        else:
            raise ValueError(
                f"{word!r} in the row {text!r} is neither NAME=VALUE nor a recipe: the recipes are "
                f"{', '.join(recipes)}."
            )
    return Row(name, changes)


def chosen(rows: typing.Sequence[Row], names: typing.Sequence[str] = ()) -> list[Row]:
    """Returns the rows of these names, or all rows if none is given.

    Raises:
        ValueError: for an unknown name, or two rows of the same name.
    """
    by_name = {row.name: row for row in rows}
    if len(by_name) < len(rows):
        names = [row.name for row in rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"Two rows have the name {', '.join(twice)}: give them different ones.")
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(by_name)}."
            raise ValueError(f"There is no row {name!r}: {hint}")
    return [row for row in rows if not names or row.name in names]
