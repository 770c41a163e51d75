"""The files of a table: JSON, CSV, Markdown and a chart."""

import csv
import io
import pathlib

from sit_keras.config.files import make_own_folder
from sit_keras.evaluation.paper import FINETUNED, LINEAR
from sit_keras.plots import charts
from sit_keras.runs.files import write_json, write_text
from sit_keras.runs.results import accuracy_text
from sit_keras.runs.shown_names import markdown_text


def write_table(results: dict, output: pathlib.Path) -> None:
    """Writes `table.json`, `table.csv`, `table.md` and `chart.png`.

    Args:
        results: as `make_table` returns.
        output: pathlib.Path of the folder. Made if it does not exist.
    """
    make_own_folder(output)
    write_json(output / "table.json", results)
    entries, buffer = results["entries"], io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(["row", "column", "seed", "accuracy", "paper"])
    for entry in entries:
        paper = "" if entry["paper"] is None else entry["paper"] / 100
        for seed, accuracy in entry["seeds"].items():
            lines.writerow([entry["row"], entry["column"], seed, accuracy, paper])
    write_text(output / "table.csv", buffer.getvalue())
    write_text(output / "table.md", markdown(results))
    charts.table_chart(entries, output / "chart.png")


def markdown(results: dict) -> str:
    """Returns a table of `make_table` as Markdown, with the paper's numbers beside ours."""
    filled = {entry["column"] for entry in results["entries"]}
    columns = [column for column in (FINETUNED, LINEAR) if column in filled]
    by_place = {(entry["row"], entry["column"]): entry for entry in results["entries"]}
    head = [f"{column}, %" for column in columns] + [f"{column}, paper" for column in columns]
    lines = [f"| {results['table']} | " + " | ".join(head) + " |", "|---" * (1 + len(head)) + "|"]
    for row in dict.fromkeys(entry["row"] for entry in results["entries"]):
        ours = [by_place.get((row, column)) for column in columns]
        cells = [_percent(entry) for entry in ours]
        cells += [f"{entry['paper']:.2f}" if entry and entry["paper"] else "" for entry in ours]
        lines.append(f"| {markdown_text(row)} | " + " | ".join(cells) + " |")
    seeds = max(len(entry["seeds"]) for entry in results["entries"])
    recipe = f", recipe {results['recipe']}" if results.get("recipe", "paper") != "paper" else ""
    note = (
        f"Preset {results['preset']}{recipe}, top-1 accuracy on test images; linear: heads on "
        f"frozen features without augmentation; seeds: {seeds}"
    )
    note += ", mean ± deviation." if seeds > 1 else "."
    for scores in results.get("largest_class", []):
        dataset = markdown_text(scores["dataset"])
        note += f" Always the largest class of {dataset} would get {accuracy_text(scores)}."
    return "\n".join([*lines, "", note]) + "\n"


def _percent(entry) -> str:
    if entry is None:
        return ""
    spread = "" if entry["deviation"] is None else f" ± {100 * entry['deviation']:.2f}"
    return f"{100 * entry['mean']:.2f}{spread}"
