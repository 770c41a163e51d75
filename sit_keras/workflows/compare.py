"""Compares runs: the settings in which they differ, their results, and their curves."""

import collections
import csv
import dataclasses
import io
import os
import pathlib
import textwrap
import typing

from sit_keras.config.files import make_own_folder
from sit_keras.data.finding import printable
from sit_keras.plots.run_curves import run_curves
from sit_keras.runs.files import write_text
from sit_keras.runs.results import aligned
from sit_keras.runs.shown_names import markdown_text
from sit_keras.runs.summary import RESULTS, RunSummary, summarize

WIDTH = 100  # columns of the terminal's table
MAX_NAME = 34
_NOTE = (
    "Losses and accuracies of tasks are of the last epoch, on held-out images where there are "
    "some. linear and kNN are accuracies of the comparison at the end of a run, each behind it of "
    "the same network untrained. Hours are those of all steps at the speed that was measured."
)
_TITLES = {
    "reconstruction": "rec", "rotation": "rot", "contrastive": "con", "rotation_accuracy":
    "rot acc", "contrastive_accuracy": "con acc", "linear": "linear", "linear_untrained":
    "untrained", "knn": "kNN", "knn_untrained": "untrained", "images_per_second": "images/s",
    "hours": "hours",
}  # fmt: skip


def compare(
    runs: typing.Sequence[str | os.PathLike], output: str | os.PathLike = "comparison"
) -> list[RunSummary]:
    """Compares runs, prints a table, and writes it with a chart of their curves.

    Runs of earlier versions, and those that are not finished, have gaps.

    Args:
        runs: folders of runs; of a folder of `tune` its trials are taken. What is neither is named
            and left out.
        output: the folder. Gets `table.md`, `table.csv` and `curves.png`, over those of an earlier
            comparison.

    Returns:
        The runs that were compared, in the order given.

    Raises:
        ValueError: if there is no run, or the output is one of the runs.
        OSError: if the folder cannot be written.
    """
    folders = [each for run in runs for each in _folders(pathlib.Path(run))]
    folders = list({folder.resolve(): folder for folder in folders}.values())
    found = [(folder, summarize(folder)) for folder in folders]
    others = [printable(str(folder)) for folder, summary in found if summary is None]
    kept = [(folder, summary) for folder, summary in found if summary is not None]
    if not kept:
        raise ValueError(
            f"There is no run in {', '.join(others) or 'no folder'}: give folders of train, such "
            "as runs/*."
        )
    output = pathlib.Path(output)
    if output.resolve() in {folder.resolve() for folder, _ in kept}:
        raise ValueError(f"{output} is one of the runs: give another folder with --output.")
    summaries = _named(kept)
    if others:
        print(f"Left out, as they hold no run: {', '.join(others)}.")
    names = differing_settings(summaries)
    print(terminal_table(summaries, names))
    output = make_own_folder(output)
    write_text(output / "table.md", markdown_table(summaries, names))
    write_text(output / "table.csv", csv_table(summaries, names))
    run_curves([(each.name, each.log) for each in summaries], output / "curves.png")
    print(f"Table and chart: {output}")
    return summaries


def _folders(folder) -> list[pathlib.Path]:
    """A folder, or the trials of a search."""
    trials = folder / "trials"
    if (folder / "config.json").exists() or not trials.is_dir():
        return [folder]
    return sorted(each for each in trials.iterdir() if each.is_dir())


def _named(found) -> list[RunSummary]:
    """The summaries, in which runs of one name get that of the folder above as well."""
    counts = collections.Counter(summary.name for _, summary in found)
    named = []
    for folder, summary in found:
        above, name = folder.resolve().parent, summary.name
        above = above.parent if above.name == "trials" else above
        if counts[name] > 1:
            name = f"{above.name}/{name}"
        named.append(dataclasses.replace(summary, name=printable(name)))
    return named


def differing_settings(summaries: typing.Sequence[RunSummary]) -> list[str]:
    """Returns the names of the settings of which the runs have more than one value.

    A setting that an earlier version did not know differs only if those that know it do.

    Args:
        summaries: of the runs.
    """
    names = dict.fromkeys(name for each in summaries for name in each.settings)
    values = {
        name: {str(each.settings[name]) for each in summaries if name in each.settings}
        for name in names
    }
    return [name for name in names if len(values[name]) > 1]


def terminal_table(summaries: typing.Sequence[RunSummary], names: typing.Sequence[str]) -> str:
    """Returns the results in aligned columns, then for each run what differs and its answer.

    Args:
        summaries: of the runs.
        names: of the settings that differ.
    """
    shown = [
        name
        for name in _TITLES
        if not name.endswith("_accuracy") and any(_known(each, name) for each in summaries)
    ]
    short = [_numbered(number, each.name) for number, each in enumerate(summaries, 1)]
    rows = [("", *(_TITLES[name] for name in shown))]
    rows += [
        (name, *(_cell(each, column) for column in shown))
        for name, each in zip(short, summaries, strict=True)
    ]
    lines = [aligned(rows), ""]
    for number, each in enumerate(summaries, 1):
        settings = ", ".join(f"{n}={_value(each, n)}" for n in names if n in each.settings)
        lines += _filled(f"{_answer(each)}.", f"  {number}: ")
        lines += _filled(settings, "     ") if settings else []
    return "\n".join([*lines, ""])


def _filled(text, begin) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=begin, subsequent_indent=" " * 5, break_on_hyphens=False
    )


def _numbered(number, name):
    name = f"{number}: {name}"
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."


def markdown_table(summaries: typing.Sequence[RunSummary], names: typing.Sequence[str]) -> str:
    """Returns one table of settings that differ and results as Markdown; arguments as above."""
    shown = [name for name in RESULTS if any(_known(each, name) for each in summaries)]
    heading = ["run", *names, *(_TITLES[name] for name in shown), "answer"]
    rows = [heading, ["---"] * len(heading)]
    for each in summaries:
        cells = [each.name, *(_value(each, name) for name in names)]
        rows.append([*map(markdown_text, cells), *(_cell(each, name) for name in shown),
                     markdown_text(_answer(each))])  # fmt: skip
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([*lines, "", _NOTE, "", "![Curves of the runs](curves.png)"]) + "\n"


def csv_table(summaries: typing.Sequence[RunSummary], names: typing.Sequence[str]) -> str:
    """Returns the same table as CSV, with shares in [0, 1]; arguments as above."""
    buffer = io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(["run", *names, *RESULTS, "answer", "best_of"])
    for each in summaries:
        settings = [each.settings.get(name) for name in names]
        results = [each.results.get(name) for name in RESULTS]
        lines.writerow([each.name, *settings, *results, each.answer, each.best_of])
    return buffer.getvalue()


def _answer(summary) -> str:
    best = f"best of the search {summary.best_of}; " if summary.best_of else ""
    return best + summary.answer


def _known(summary, name):
    return summary.results.get(name) is not None


def _value(summary, name) -> str:
    value = summary.settings.get(name, "")
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _cell(summary, name) -> str:
    value = summary.results.get(name)
    if value is None:
        return "-"
    if name == "images_per_second":
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    if name == "hours":
        return f"{value:.2f}"
    is_share = name.endswith("_accuracy") or name.startswith(("linear", "knn"))
    return f"{value:.1%}" if is_share else f"{value:.3f}"
