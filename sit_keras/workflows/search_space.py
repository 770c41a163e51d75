"""The ranges of a search, and the settings that a point in them stands for."""

import typing

from sit_keras.config.checks import check_choice
from sit_keras.config.choices import PARAMETERS
from sit_keras.config.extras import import_package
from sit_keras.config.settings import OF_LEARNED_WEIGHTS, RunConfig

keras_tuner = import_package("keras_tuner")


def search_space(config: RunConfig, parameters: typing.Sequence[str]) -> typing.Any:
    """Returns the ranges to search, around the settings of a run.

    Args:
        config: RunConfig.
        parameters: some of `PARAMETERS`.

    Raises:
        ValueError: if one of them is unknown, or there is none.
    """
    for parameter in parameters:
        check_choice("parameter", parameter, PARAMETERS)
    if not parameters:
        raise ValueError(f"Nothing to search: name some of {', '.join(PARAMETERS)}.")
    space = keras_tuner.HyperParameters()
    if "learning_rate" in parameters:
        rate = config.learning_rate
        space.Float("learning_rate", rate / 10, rate * 10, sampling="log", default=rate)
    if "temperature" in parameters:
        space.Float("temperature", 0.05, 1.0, sampling="log", default=config.temperature)
    if "corruption" in parameters:
        space.Float("corruption.drop", 0.0, 0.7, default=config.corruption.drop)
        space.Float("corruption.replace", 0.0, 0.7, default=config.corruption.replace)
    if "weight_decay" in parameters:
        space.Float("weight_decay", 1e-4, 0.5, sampling="log", default=config.weight_decay)
    if "drop_path" in parameters:
        space.Float("model.drop_path_rate", 0.0, 0.3, default=config.model.drop_path_rate)
    if "task_weights" in parameters:
        space.Choice("weighting", ["uncertainty", "fixed"], default=config.weighting)
        with space.conditional_scope("weighting", ["fixed"]):
            for task in config.tasks:
                space.Float(f"weight of {task}", 0.1, 10.0, sampling="log", default=1.0)
    return space


def chosen_changes(config: RunConfig, values: dict) -> dict:
    """Returns what a trial changes in a config, for `sit_keras.config.serialization.changed`.

    Numbers are rounded to four digits, so that a command can name them.

    Args:
        config: RunConfig.
        values: of the parameters of `search_space`, and Hyperband's own `tuner/epochs`.
    """
    values = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in values.items()
    }
    weights = [values.pop(f"weight of {task}", None) for task in config.tasks]
    changes = {name: value for name, value in values.items() if "/" not in name}
    if changes.get("weighting") == "fixed":
        changes["task_weights"] = weights
        changes |= {n: v for n, v in OF_LEARNED_WEIGHTS.items() if getattr(config, n) != v}
    elif "weighting" in changes:
        changes["task_weights"] = None
    if "tuner/epochs" in values:
        changes["epochs"] = values["tuner/epochs"]
        changes["warmup_epochs"] = min(config.warmup_epochs, changes["epochs"] - 1)
    return changes
