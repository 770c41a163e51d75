"""Checks that several settings share. Standard library only."""

import math
import typing

TASKS = ("reconstruction", "rotation", "contrastive")


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    require(value in choices, f"Unknown {name} {value!r}: choose one of {', '.join(choices)}.")


def check_tasks(tasks: typing.Iterable[str]) -> tuple[str, ...]:
    """Returns the tasks as a tuple, in the order given (which `task_weights` follow).

    Raises:
        ValueError: if there is none, one is unknown, or one is named twice.
    """
    tasks = tuple(tasks)
    subset = f"choose a non-empty subset of {', '.join(TASKS)}."
    unknown = [task for task in tasks if task not in TASKS]
    require(not unknown, f"Unknown tasks {unknown}: {subset}")
    require(len(tasks) > 0, f"No task given: {subset}")
    require(len(set(tasks)) == len(tasks), f"A task is named twice in {tasks}: {subset}")
    return tasks


def check_weighting(
    weighting: str, tasks: tuple[str, ...], task_weights: tuple[float, ...] | None
) -> None:
    """Raises ValueError unless the weights fit the weighting and the tasks."""
    check_choice("weighting", weighting, ("uncertainty", "fixed"))
    if task_weights is None:
        return
    require(
        weighting == "fixed",
        f"task_weights {task_weights} were given, but weighting={weighting!r} learns them: "
        "use weighting='fixed'.",
    )
    require(
        len(task_weights) == len(tasks),
        f"task_weights has {len(task_weights)} values for {len(tasks)} tasks "
        f"({', '.join(tasks)}): give one for each.",
    )
    require(
        all(0 <= weight < float("inf") for weight in task_weights) and any(task_weights),
        f"task_weights must be 0 or above, and one of them positive, received {task_weights}.",
    )


def check_value_range(value_range: tuple[float, float] | None) -> None:
    """Raises ValueError unless the values that become black and white are such, or None."""
    if value_range is None:
        return
    require(
        len(value_range) == 2
        and all(math.isfinite(value) for value in value_range)
        and value_range[0] < value_range[1],
        "value_range must be two finite numbers, the lower one first, such as (0, 4095); received "
        f"{tuple(value_range)}.",
    )


def check_batch(batch_size: int, tasks: tuple[str, ...]) -> None:
    """Raises ValueError where the contrastive task would have no negatives."""
    require(
        batch_size > 1 or "contrastive" not in tasks,
        "The contrastive task needs a batch of at least 2 images, received batch_size=1: with one "
        "image there is nothing to tell it apart from. Raise batch_size or leave the task out.",
    )
