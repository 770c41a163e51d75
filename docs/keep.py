"""Keeps what a run, a comparison of recipes or a table has found under `results/NAME`.

    python -m docs.keep NAME --command='python train.py --seed=0' runs/digits-digits-seed0

Several runs of one result, of different seeds, are given one after the other. Of a run that is not
finished its state is kept: a copy of its folder goes on with the same command.
"""

import argparse
import pathlib
import shutil
import typing

from docs import made
from docs.tables import EVALUATIONS, render
from sit_keras.runs.files import read_json
from sit_keras.runs.folder import read_settings
from sit_keras.workflows import recipe_table

OF_RUN = ("config.json", "log.csv", "results.json", "model_card.md")
OF_COMPARISON = ("records.jsonl", "about.json")
OF_TABLE = ("table.json",)
# What makes a folder large and is not needed to go on.
LEFT_OUT = shutil.ignore_patterns("tensorboard", "sheets", ".lock", "*.filelock")


def keep(
    name: str,
    sources: list[pathlib.Path],
    command: str,
    hardware: str,
    commit: str,
    evaluations: typing.Sequence[pathlib.Path] = (),
) -> pathlib.Path:
    """Copies what is quoted from folders of results, with how it was made.

    Args:
        name: str. Of the folder in `results`.
        sources: run folders, or the folder of one comparison or table.
        command, hardware, commit: as of `docs.made.Made`.
        evaluations: folders of `sit-keras evaluate`, which are shown in a second table.

    Returns:
        The folder.

    Raises:
        ValueError: for a folder without results.
    """
    folder = made.RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    last, hours = [_keep_one(source, folder) for source in sources], _hours(folder)
    for evaluation in evaluations:
        kept = folder / EVALUATIONS / f"{evaluation.name}.json"
        kept.parent.mkdir(exist_ok=True)
        shutil.copy2(evaluation / "results.json", kept)
    made.Made(command, hardware, max(map(made.day_of, last)), commit, hours).write(folder)
    render(folder)
    return folder


def _keep_one(source, folder) -> pathlib.Path:
    """Copies the files of one source, and returns the last of them that was written."""
    for names in (OF_COMPARISON, OF_TABLE):
        if (source / names[0]).exists():
            for name in names:
                shutil.copy2(source / name, folder / name)
            return source / names[0]
    if not (source / "config.json").exists():
        raise ValueError(
            f"{source} is no folder of a run, of benchmark-recipes or of a table of evaluate."
        )
    own = folder / f"seed{read_settings(source).seed}"
    shutil.rmtree(own, ignore_errors=True)
    if not (source / "results.json").exists():
        shutil.copytree(source, own, ignore=LEFT_OUT)
        return source / "log.csv"
    own.mkdir()
    for name in OF_RUN:
        shutil.copy2(source / name, own / name)
    sheets = sorted((source / "sheets").glob("epoch_*.png"))
    if sheets:
        shutil.copy2(sheets[-1], own / "sheet.png")
    return source / "results.json"


def _hours(folder) -> float:
    """Returns the hours of training of all runs, as far as they are known."""
    paths = folder.glob("seed*/results.json")
    runs = [read_json(path, "the results of a run") for path in paths]
    runs += recipe_table.records(folder)  # none, if the folder is no comparison of recipes
    return round(sum(run.get("train_seconds", 0.0) for run in runs) / 3600, 2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.keep", description=__doc__)
    parser.add_argument("name", help="the folder in results")
    parser.add_argument("source", nargs="+", type=pathlib.Path, help="what to keep")
    parser.add_argument("--command", required=True, help="the command that made it")
    parser.add_argument("--hardware", default=made.hardware(), help="default: this machine's")
    parser.add_argument("--commit", default=made.commit(), help="default: the one checked out")
    parser.add_argument(
        "--evaluations", nargs="*", default=(), type=pathlib.Path, help="folders of evaluate"
    )
    options = parser.parse_args()
    how = options.command, options.hardware, options.commit
    folder = keep(options.name, options.source, *how, options.evaluations)
    print(f"Kept in {folder}. make tables brings it into the pages that quote it.")


if __name__ == "__main__":
    main()
