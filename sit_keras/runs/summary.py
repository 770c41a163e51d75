"""What is known of a run from its files, also of an unfinished one or an earlier version."""

import dataclasses
import os
import pathlib
import typing

import numpy as np

from sit_keras.config.checks import TASKS
from sit_keras.config.files import read_json
from sit_keras.config.serialization import flattened, from_dict
from sit_keras.config.settings import RunConfig
from sit_keras.runs.answer import answer_in_brief
from sit_keras.runs.log import read_log
from sit_keras.runs.shown_names import shown_settings

# The results of a run in the order of a table.
RESULTS = (
    *TASKS, "rotation_accuracy", "contrastive_accuracy", "linear", "linear_untrained", "knn",
    "knn_untrained", "images_per_second", "hours",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """A run in plain values.

    Args:
        name: str. Of its folder.
        settings: by names such as `views.crop_area`, those that its version knew.
        results: by the names of `RESULTS`, None where the run has none: held-out losses and
            accuracies where there is a validation, accuracies of the probes, speed, duration.
        answer: str. In a few words.
        log: as of `read_log`, empty if no epoch was logged.
        best_of: str. The search whose best trial it is, or empty.
    """

    name: str
    settings: dict[str, typing.Any]
    results: dict[str, float | None]
    answer: str
    log: dict[str, np.ndarray]
    best_of: str = ""


def summarize(folder: str | os.PathLike) -> RunSummary | None:
    """Returns what is known of a run, or None if the folder holds no run.

    Args:
        folder: of the run.
    """
    folder = pathlib.Path(folder)
    try:
        config = read_json(folder / "config.json", "the settings of a run", ("dataset", "epochs"))
    except ValueError:
        return None
    config.pop("versions", None)
    found, log, answer = {}, {}, None
    try:
        log = read_log(folder / "log.csv")
    except (OSError, ValueError):
        answer = "no epoch has ended"
    if (folder / "results.json").exists():
        try:
            found = read_json(folder / "results.json", "the results of a run")
        except ValueError:
            answer = "results.json cannot be read"
    elif log:
        answer = f"not finished: epoch {len(log['epoch'])} of {config['epochs']}"
    return RunSummary(
        name=folder.resolve().name,
        settings=flattened(shown_settings(config)),
        results=_results(config, found, log),
        answer=answer or _brief(config, found, log),
        log=log,
        best_of=_best_of(folder),
    )


def _results(config, found, log) -> dict[str, float | None]:
    last = {name: values[-1] for name, values in log.items()}
    values = {name: _first(last, f"val_{name}", name) for name in RESULTS}
    for judge in ("linear", "knn"):
        values[judge] = _at(found, f"{judge}_accuracy", "trained")
        values[f"{judge}_untrained"] = _at(found, f"{judge}_accuracy", "untrained")
    seconds, steps = _at(found, "train_seconds"), _at(found, "steps")
    batch = _at(config, "batch_size")
    # Where a run was interrupted, the seconds are those of its last stretch alone.
    timed = _at(found, "timed_steps") if "timed_steps" in found else steps
    if seconds and timed and steps:
        values["images_per_second"] = timed * batch / seconds if batch else None
        values["hours"] = seconds / 3600 * steps / timed
    return values


def _first(values, *names) -> float | None:
    known = [float(values[name]) for name in names if not np.isnan(values.get(name, np.nan))]
    return known[0] if known else None


def _at(values, *names) -> float | None:
    """The number at a place in dicts within each other, if it is there."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    is_number = isinstance(values, (int, float)) and not isinstance(values, bool)
    return float(values) if is_number else None


def _brief(config, found, log) -> str:
    try:
        return answer_in_brief(from_dict(RunConfig, config), found, log)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # Settings or results have other names than today.
        return "of an earlier version, whose answer is not known"


def _best_of(folder) -> str:
    """The search of `tune` whose best trial this run is."""
    folder = folder.resolve()
    search = folder.parent.parent
    if folder.parent.name != "trials" or not (search / "results.json").exists():
        return ""
    try:
        best = read_json(search / "results.json", "the results of a search", ["best"])["best"]
    except ValueError:
        return ""
    is_best = isinstance(best, dict) and best.get("trial") == folder.name
    return search.name if is_best else ""
