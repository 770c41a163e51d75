"""The settings of `train` and `doctor` where they are planned from the images: `--preset=auto`."""

import pathlib

from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import given_settings, run_folder
from sit_keras.config.execution import Execution
from sit_keras.config.plan import MINUTES
from sit_keras.config.presets import AUTO, train_preset
from sit_keras.config.serialization import changed
from sit_keras.config.settings import RunConfig

# The method of a plan where none is named, see docs/own_images.md.
RECIPE = "modern"


def define_minutes(flags: Flags) -> None:
    """Defines how long a planned run may take."""
    flags.number(
        "minutes",
        None,
        "With --preset=auto, how long the run may take on this machine, with its answer: the "
        "epochs follow from it and from a measured step. A run that goes on keeps its epochs.",
        usually=f"{MINUTES:g}",
    )


def is_planned(options: Options) -> bool:
    """Whether the flags ask for a plan."""
    return (options.preset or train_preset(options.dataset)) == AUTO


def refuse_flags(options: Options, execution: Execution) -> None:
    """Raises ValueError for flags that do not go with a plan, or with its lack."""
    if options.minutes is not None:
        if not is_planned(options):
            raise ValueError(
                f"--minutes={options.minutes:g} is for --preset={AUTO}, which measures a step: "
                "give --epochs with another preset."
            )
        if "epochs" in given_settings(options):
            raise ValueError("Give either --minutes or --epochs: both say how long the run is.")
        if not 0 < options.minutes < float("inf"):
            raise ValueError(f"--minutes must be above 0, received {options.minutes:g}.")
    if is_planned(options) and execution.strategy == "multiworker":
        raise ValueError(
            f"--preset={AUTO} measures a step on one machine, so several would plan differently: "
            "name another preset."
        )


def draft_settings(options: Options):
    """Returns a plan without a measured step, a `sit_keras.workflows.planning.Plan`."""
    from sit_keras.workflows.planning import draft_plan

    recipe = options.recipe if "recipe" in options.given else RECIPE
    return draft_plan(
        options.dataset, recipe, given_settings(options), options.data_dir, options.download
    )


def planned_settings(options: Options, execution: Execution) -> RunConfig:
    """Returns the settings of a planned run, and prints the plan.

    A run that was begun goes on with the numbers that it was planned with.
    """
    from sit_keras.runs.folder import begun_settings
    from sit_keras.workflows.plan_text import plan_text
    from sit_keras.workflows.planning import plan_of, plan_run

    plan = draft_settings(options)
    run_dir = pathlib.Path(run_folder(options, plan.config))
    begun = begun_settings(run_dir)
    where = options.data_dir, options.download, execution
    if begun is None or begun.preset != AUTO:
        plan = plan_run(plan, given_settings(options), options.minutes, *where)
    else:
        asked = {"dataset": options.dataset}
        if "recipe" in options.given:
            asked["recipe"] = options.recipe
        config = changed(begun, given_settings(options) | asked)
        if not options.dry_run:
            print(f"The plan of {run_dir / 'config.json'} holds.")
            return config
        plan = plan_of(config, *where)
    print(plan_text(plan), flush=True)
    return plan.config
