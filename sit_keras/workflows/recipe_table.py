"""The records of a comparison of recipes, and the table and the chart that follow from them.

Shapes: S seeds, N test images.
"""

import csv
import io
import json
import pathlib
import typing

import numpy as np

from sit_keras.config.checks import TASKS
from sit_keras.config.files import read_json
from sit_keras.config.serialization import differing
from sit_keras.evaluation.scores import mean_interval
from sit_keras.plots import charts
from sit_keras.runs.files import write_json, write_text
from sit_keras.runs.shown_names import markdown_text

RECORDS, ABOUT = "records.jsonl", "about.json"
JUDGES = {"knn": "nearest neighbours", "linear": "linear probe"}
PAPER = "paper"  # the row that the others are compared with


def begin(output: pathlib.Path, about: dict) -> None:
    """Writes what all rows of a folder have in common; ValueError if it holds something else."""
    path, about = output / ABOUT, json.loads(json.dumps(about))
    if path.exists():
        other = differing(read_json(path, "what a comparison of recipes is about"), about)
        if other:
            raise ValueError(
                f"{output} holds another comparison ({'; '.join(other)}): give another --output."
            )
    write_json(path, about)


def records(output: pathlib.Path) -> list[dict]:
    """Returns the records of a folder, one for each row and seed; a line cut off is left out."""
    path = output / RECORDS
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            print(f"A line of {path} is no JSON and is left out.")
    return found


def add(output: pathlib.Path, record: dict) -> None:
    """Adds a record, in place of an earlier one of its row and seed, and writes the table."""
    key = record["row"], record["seed"]
    kept = [each for each in records(output) if (each["row"], each["seed"]) != key]
    lines = [json.dumps(each) for each in [*kept, json.loads(json.dumps(record))]]
    write_text(output / RECORDS, "\n".join(lines) + "\n")
    write(output)


def line(record: dict) -> str:
    """Returns what a record says, for the terminal."""
    if "error" in record:
        return f"{record['row']}, seed {record['seed']}, failed: {record['error']}"
    scores = (f"{name} {record[judge]['accuracy']:.1%}" for judge, name in JUDGES.items())
    return f"{record['row']}, seed {record['seed']}: {', '.join(scores)}"


def packed(right: np.ndarray) -> str:
    """Returns (N,) bool as hexadecimal digits, whose first bit is the first image."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, count: int) -> np.ndarray:
    """Returns the (N,) float32 of `packed`, 0 or 1."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return bits[:count].astype("float32")


def summaries(found: typing.Sequence[dict], queries: int) -> list[dict]:
    """Returns a summary of each row: means over seeds, intervals, and what a run took.

    Args:
        found: records.
        queries: int. N.

    Returns:
        Dicts of `row`, `seeds`; for each of `JUDGES` a dict of `mean`, `deviation` over seeds (None
        of one), `interval` of the mean over test images, `gain` over the row `paper` and its
        paired `gain_interval` (None without that row); `losses` of the tasks, `steps` and
        `cpu_seconds`, each a mean (None of a baseline).
    """
    done = [record for record in found if "error" not in record]
    by_row = {name: [r for r in done if r["row"] == name] for name in _order(done)}
    return [
        {
            "row": name,
            "seeds": [record["seed"] for record in own if record["seed"] is not None],
            **{judge: _judged(own, by_row.get(PAPER, []), judge, queries) for judge in JUDGES},
            "losses": {task: _mean(r.get("losses", {}).get(task) for r in own) for task in TASKS},
            "steps": _mean(record.get("steps") for record in own),
            "cpu_seconds": _mean(record.get("cpu_seconds") for record in own),
        }
        for name, own in by_row.items()
    ]


def _order(done) -> list[str]:
    """The names of rows: baselines first, then the rows as they came."""
    return list(dict.fromkeys(r["row"] for r in sorted(done, key=lambda r: r["seed"] is not None)))


def _mean(values):
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def _judged(own, paper, judge, queries) -> dict:
    right = {r["seed"]: unpacked(r[judge]["right"], queries) for r in own}  # (N,) of each seed
    accuracies = [float(values.mean()) for values in right.values()]
    result = {
        "mean": float(np.mean(accuracies)),
        "deviation": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        "interval": mean_interval(np.mean(list(right.values()), axis=0)),
        "gain": None,
        "gain_interval": None,
    }
    reference = {r["seed"]: unpacked(r[judge]["right"], queries) for r in paper}
    common = [seed for seed in right if seed in reference]
    if common and own[0]["row"] != PAPER:
        # Of the same seeds and on the same images, so that what is hard for both cancels.
        gain = np.mean([right[seed] - reference[seed] for seed in common], axis=0)
        result |= {"gain": float(gain.mean()), "gain_interval": mean_interval(gain)}
    return result


def markdown(found: typing.Sequence[dict], about: dict) -> str:
    """Returns the table of a comparison as Markdown.

    Args:
        found: records.
        about: as of `about.json`.
    """
    heading = ["", *(f"{name}, %" for name in JUDGES.values())]
    heading += [f"{name}: gain over paper" for name in JUDGES.values()]
    heading += ["losses: " + ", ".join(TASKS), "steps", "CPU-seconds"]
    rows = [heading, ["---"] * len(heading)]
    for row in summaries(found, about["queries"]):
        cells = [markdown_text(row["row"])]
        cells += [_accuracy(row[judge]) for judge in JUDGES]
        cells += [_gain(row[judge]) for judge in JUDGES]
        losses = ["" if x is None else f"{x:.2f}" for x in row["losses"].values()]
        cells.append(" / ".join(x or "-" for x in losses) if any(losses) else "")
        cells += ["" if row[x] is None else f"{row[x]:,.0f}" for x in ("steps", "cpu_seconds")]
        rows.append(cells)
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    failed = [line(record) for record in found if "error" in record]
    return "\n".join([*lines, "", _note(found, about), *map(markdown_text, failed)]) + "\n"


def _accuracy(judged) -> str:
    low, high = (100 * end for end in judged["interval"])
    spread = "" if judged["deviation"] is None else f" ± {100 * judged['deviation']:.1f}"
    return f"{100 * judged['mean']:.1f}{spread} ({low:.1f} to {high:.1f})"


def _gain(judged) -> str:
    if judged["gain"] is None:
        return ""
    low, high = (100 * end for end in judged["gain_interval"])
    return f"{100 * judged['gain']:+.1f} ({low:+.1f} to {high:+.1f})"


def _note(found, about) -> str:
    seeds = sorted({record["seed"] for record in found if record["seed"] is not None})
    budget = (
        f"{about['images']:,} images seen in each run"
        if about["budget"] is None
        else f"{about['budget']:g} CPU-seconds of steps in each run"
    )
    return (
        f"{markdown_text(about['settings']['dataset'])}, preset {about['settings']['preset']}, "
        f"{budget}; seeds: {', '.join(map(str, seeds)) or 'none yet'}. Judged on "
        f"{about['queries']:,} {about['split']} images, with {about['bank']:,} labelled ones to "
        "learn from; ± is the standard deviation over seeds, in brackets are 95 % intervals over "
        "the test images, those of the gains paired. Losses are of the last epoch. CPU-seconds are "
        "those of all steps, without compilation."
    )


def write(output: pathlib.Path) -> None:
    """Writes `table.md`, `table.csv` and `chart.png` of the records of a folder."""
    found, about = records(output), read_json(output / ABOUT, "what a comparison is about")
    write_text(output / "table.md", markdown(found, about))
    rows, buffer = summaries(found, about["queries"]), io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(["row", "seed", *JUDGES, *TASKS, "steps", "cpu_seconds", "error"])
    for record in found:
        losses = record.get("losses", {})
        cells = [record.get(judge, {}).get("accuracy") for judge in JUDGES]
        cells += [losses.get(task) for task in TASKS]
        cells += [record.get(name) for name in ("steps", "cpu_seconds", "error")]
        lines.writerow([record["row"], record["seed"], *cells])
    write_text(output / "table.csv", buffer.getvalue())
    if rows:
        charts.table_chart(chart_entries(rows), output / "chart.png")


def chart_entries(rows: typing.Sequence[dict]) -> list[dict]:
    """Returns summaries as the bars of `sit_keras.plots.charts.table_chart`."""
    return [
        {"row": row["row"], "column": name, "paper": None}
        | {part: row[judge][part] for part in ("mean", "deviation")}
        for row in rows
        for judge, name in JUDGES.items()
    ]
