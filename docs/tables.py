"""Makes every table and chart from `results/NAME`, and brings the tables into the pages.

    python -m docs.tables

In README.md and docs/*.md a table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import pathlib
import re

import numpy as np
from matplotlib.figure import Figure

from docs.made import FILE, RESULTS, ROOT, Made
from sit_keras.plots import charts, curves
from sit_keras.plots.figures import save_figure
from sit_keras.runs.files import read_json, write_text
from sit_keras.runs.log import read_log
from sit_keras.runs.results import accuracy_text, kinds_of
from sit_keras.workflows import recipe_table, table_files

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EVALUATIONS = "evaluations"
_BLOCK = re.compile(r"(<!-- table: (?P<name>[^\n]*?) -->\n)(?P<old>.*?)(<!-- end -->)", re.DOTALL)
_NUMBERS = {1: "one seed", 2: "two seeds", 3: "three seeds", 4: "four seeds", 5: "five seeds"}


def table(folder: pathlib.Path) -> str:
    """Returns the table of a kept result as Markdown."""
    if (folder / recipe_table.RECORDS).exists():
        about = read_json(folder / recipe_table.ABOUT, "what a comparison is about")
        return recipe_table.markdown(recipe_table.records(folder), about)
    if (folder / "table.json").exists():
        return table_files.markdown(json.loads((folder / "table.json").read_text()))
    return _runs(folder)


def _runs(folder) -> str:
    """Returns the comparison of runs of several seeds with their baselines."""
    configs = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*/config.json"))]
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*/results.json"))]
    how = Made.read(folder)
    if len(found) < len(configs):
        return f"{len(configs) - len(found)} of {len(configs)} runs are not finished yet.\n"
    seeds = ", ".join(f"`{config['seed']}`" for config in configs)
    heading = f"{_NUMBERS.get(len(configs), f'{len(configs)} seeds')} ({seeds})"
    lines = [f"| {heading} | linear evaluation | nearest neighbours |", "|---|---|---|"]
    for kind, name in kinds_of(found[0]).items():
        name = f"SiT, {_epochs(configs, found)}" if kind == "trained" else name
        cells = [_accuracies(found, probe, kind) for probe in ("linear", "knn")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    note = (
        f"`{how.command}`, accuracy on {found[0]['probe_test_images']:,} "
        f"{found[0]['probe_test_split']} images, {how.hardware}, {how.date}, commit {how.commit}."
    )
    return "\n".join([*lines, "", note, *_evaluations(folder)]) + "\n"


def _epochs(configs, found) -> str:
    """Returns for how many epochs runs have been trained; of one also how many it is to have."""
    totals = [config["epochs"] for config in configs]
    done = [results.get("epochs_done", total) for results, total in zip(found, totals, strict=True)]
    if done != totals:
        return f"{done[0]} of {totals[0]} epochs so far"
    fewest, most = min(done), max(done)
    return f"{most} epochs" if fewest == most else f"{fewest} to {most} epochs"


def _evaluations(folder) -> list[str]:
    """Returns the lines of a table of the evaluations that were kept with the runs."""
    found = {path.stem: json.loads(path.read_text()) for path in (folder / EVALUATIONS).glob("*")}
    if not found:
        return []
    lines = ["", f"| evaluation | labels | test images | {' | '.join(_JUDGES)} |", "|---" * 6 + "|"]
    for name, results in sorted(found.items()):
        cells = [judge(results) for judge in _JUDGES.values()]
        counts = f"{results['train_images']:,} | {results['test_images']:,}"
        lines.append(f"| {name.replace('_', ' ')} | {counts} | {' | '.join(cells)} |")
    return lines


def _judged(results, *path) -> str:
    """Returns an accuracy of an evaluation with its interval, or nothing where it was not asked."""
    for name in path:
        results = results.get(name, {})
    return accuracy_text(results).replace("%", " %") if results else ""


# The columns of the evaluations, and where the accuracy is in their results.
_JUDGES = {
    "linear evaluation": lambda results: _judged(results, "linear"),
    "nearest neighbours": lambda results: _judged(results, "knn", "scores", "20"),
    "fine-tuned": lambda results: _judged(results, "finetune"),
}


def _accuracies(found, probe, kind) -> str:
    """Returns the accuracy of each seed; of a single one with its 95 % interval."""
    scores = [results[f"{probe}_scores"][kind] for results in found]
    if len(scores) == 1:
        return accuracy_text(scores[0]).replace("%", " %")
    return ", ".join(f"{100 * each['accuracy']:.1f} %" for each in scores)


def readme(folder: pathlib.Path) -> str:
    """Returns the README of a kept result: how it was made, and the table."""
    pictures = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    shown = "\n".join(f"![{path.stem}]({path.as_posix()})" for path in pictures)
    return f"# {folder.name}\n\n{Made.read(folder).markdown()}\n{table(folder)}\n{shown}\n"


def render(folder: pathlib.Path) -> None:
    """Writes the charts, `table.md` and `README.md` of a kept result."""
    for log in folder.glob("seed*/log.csv"):
        curves.training_curves(read_log(log), log.with_name("curves.png"))
        if log.with_name("results.json").exists():
            _plot_minutes(log.parent)
    if (folder / recipe_table.RECORDS).exists():
        recipe_table.write(folder)
    if (folder / "table.json").exists():
        entries = json.loads((folder / "table.json").read_text())["entries"]
        charts.table_chart(entries, folder / "chart.png")
    write_text(folder / "table.md", table(folder))
    write_text(folder / "README.md", readme(folder))


def _plot_minutes(run: pathlib.Path) -> None:
    """Plots the accuracy of neighbours during a run against the minutes of training.

    All epochs count as the mean of them.
    """
    log, results = read_log(run / "log.csv"), json.loads((run / "results.json").read_text())
    measured = ~np.isnan(log.get("knn_accuracy", np.array([np.nan])))
    if measured.sum() < 2:
        return
    done = log["epoch"][measured] + 1
    minutes = done * results["train_seconds"] / 60 / (log["epoch"][-1] + 1)
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(minutes, 100 * log["knn_accuracy"][measured], marker=".", color="C3")
    axes.set(xlabel="minutes of training", ylabel="held-out images right, %")
    axes.set_title("Nearest neighbours")
    axes.grid(alpha=0.3)
    save_figure(figure, run / "minutes.png")


def kept() -> list[pathlib.Path]:
    """Returns the folders of the results that are quoted."""
    return sorted(path.parent for path in RESULTS.glob(f"*/{FILE}"))


def rewritten(text: str, where: str) -> str:
    """Returns a page with all its tables as the results say.

    Args:
        text: str. The page.
        where: str. Its name, for a message.

    Raises:
        ValueError: for a table of a result that is not kept, or one without an end.
    """

    def new(block):
        folder = RESULTS / block["name"]
        if not (folder / FILE).is_file():
            raise ValueError(f"{where} quotes the table of {folder.name}, which is not in results.")
        return f"{block[1]}{table(folder)}{block[4]}"

    begun, whole = text.count("<!-- table:"), len(_BLOCK.findall(text))
    nested = any("<!-- table:" in block["old"] for block in _BLOCK.finditer(text))
    if begun != whole or nested:
        raise ValueError(f"{where} has a <!-- table: NAME --> without an <!-- end -->.")
    return _BLOCK.sub(new, text)


def main() -> None:
    for folder in kept():
        render(folder)
    for page in PAGES:
        text = page.read_text()
        new = rewritten(text, page.name)
        if new != text:
            write_text(page, new)
            print(f"{page.relative_to(ROOT)} is new.")


if __name__ == "__main__":
    main()
