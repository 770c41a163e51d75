"""The paper's tables: which encoders, judged how; cell by cell, none of them twice.

A row is an encoder (pre-trained, or new) and how it is judged; a column is a number that comes out.
"""

import csv
import dataclasses
import functools
import io
import itertools
import os
import pathlib
import typing
import zlib

import keras
import numpy as np

from sit_keras.config.checks import TASKS, check_choice
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.presets import finetune_recipe, recipe
from sit_keras.config.serialization import changed, to_dict
from sit_keras.config.settings import RunConfig
from sit_keras.data.splits import possible_fractions
from sit_keras.evaluation.finetune import finetune
from sit_keras.evaluation.paper import DECK, FINETUNED, LINEAR
from sit_keras.evaluation.protocols import Frozen, few_shot, linear_once
from sit_keras.models.backbone import build_encoder
from sit_keras.models.loading import load_encoder
from sit_keras.plots import charts
from sit_keras.runs.files import write_json, write_text
from sit_keras.runs.folder import folder_name, run_name
from sit_keras.workflows.evaluate import FRACTIONS, labelled_images, refuse_settings
from sit_keras.workflows.pretrain import pretrain

TABLES = tuple(DECK)


@dataclasses.dataclass(frozen=True)
class Row:
    """An encoder and how it is judged.

    Args:
        name: str. What the table says.
        pretraining: RunConfig. Of the encoder.
        dataset: str. What it is judged on.
        columns: what comes out, of LINEAR and FINETUNED.
        scratch: bool. The same network with new weights instead.
        fraction: float or None. Few-shot: fine-tune on this share of the labels, and only then
            linear evaluation.
    """

    name: str
    pretraining: RunConfig
    dataset: str
    columns: tuple[str, ...]
    scratch: bool = False
    fraction: float | None = None


def plan(table: str, configs: typing.Sequence[RunConfig]) -> list[Row]:
    """Returns the rows of one of `TABLES`.

    Args:
        table: str.
        configs: RunConfig for each data set. The ablation sets tasks and weighting itself.

    Raises:
        ValueError: for an unknown table, or a transfer with nowhere to go.
    """
    check_choice("table", table, TABLES)
    both = (FINETUNED, LINEAR)
    if table == "linear":
        return [Row(c.dataset, c, c.dataset, (LINEAR,)) for c in configs]
    if table == "transfer":
        if len(configs) < 2:
            raise ValueError(
                f"A transfer needs two data sets, received {configs[0].dataset}: give "
                "--dataset=FIRST,SECOND."
            )
        return [
            Row(f"{a.dataset} -> {b.dataset}", a, b.dataset, (LINEAR,))
            for a, b in itertools.permutations(configs, 2)
        ]
    rows = []
    for config in configs:
        name = config.dataset
        if table == "finetune":
            rows.append(Row(f"{name}, from scratch", config, name, (FINETUNED,), scratch=True))
            rows.append(Row(name, config, name, (FINETUNED,)))
        elif table == "fewshot":
            rows.append(Row(f"{name}, 0 %", config, name, (LINEAR,)))
            rows += [
                Row(f"{name}, {100 * share:g} %", config, name, both, fraction=share)
                for share in FRACTIONS
            ]
        else:
            rows.append(Row(f"{name}, from scratch", config, name, both, scratch=True))
            for count in range(1, len(TASKS) + 1):
                for tasks in itertools.combinations(TASKS, count):
                    part = dataclasses.replace(
                        config, tasks=tasks, weighting="fixed", task_weights=None
                    )
                    what = "all three" if count == len(TASKS) else " + ".join(tasks)
                    rows.append(Row(f"{name}, {what}", part, name, both))
            learned = dataclasses.replace(
                config, tasks=TASKS, weighting="uncertainty", task_weights=None
            )
            rows.append(Row(f"{name}, all three, uncertainty", learned, name, both))
    return rows


def make_table(
    table: str,
    datasets: typing.Sequence[str],
    preset: str,
    seeds: typing.Sequence[int] = (0,),
    output: str | os.PathLike | None = None,
    runs_dir: str | os.PathLike = "runs",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    pretraining: dict | None = None,
    training: dict | None = None,
) -> dict:
    """Fills in one of the paper's tables, pre-training whatever is missing.

    Killed and called again it does nothing twice: finished runs and cells are taken as they are.

    Args:
        table: str. One of `TABLES`.
        datasets: names, as for `sit_keras.data.load_source`.
        preset: str. As for `recipe`.
        seeds: ints. Each cell is done once for each; a table shows mean and deviation.
        output: the folder of the table. Default: `tables/TABLE-DATASETS-PRESET`. Gets `table.md`,
            `table.csv`, `table.json`, `chart.png`, and a folder for each cell under `cells/`.
        runs_dir: where pre-trained runs are looked for and put, as train.py does.
        data_dir, download: as for `sit_keras.data.load_source`.
        pretraining: dict or None. Settings of `RunConfig` that differ, see `config_json.changed`.
        training: dict or None. Settings of `FinetuneConfig` that differ.

    Returns:
        What `table.json` holds.

    Raises:
        ValueError: as `plan`, for settings that do not fit, or folders of other settings.
    """
    refuse_settings("pretraining", pretraining, ("dataset", "preset", "seed"))
    if table == "ablation":
        refuse_settings("pretraining", pretraining, ("tasks", "weighting", "task_weights"))
    refuse_settings("training", training, ("frozen", "seed"))
    configs = [changed(recipe(preset, dataset=name), pretraining or {}) for name in datasets]
    rows = plan(table, configs)
    names = "+".join(map(folder_name, datasets))
    output = pathlib.Path(output or f"tables/{table}-{names}-{preset}")
    settings = changed(finetune_recipe(preset, configs[0].views), training or {})
    images_of = functools.cache(
        lambda dataset, seed: labelled_images(dataset, data_dir, download, seed)
    )
    values: dict[str, dict[str, dict[str, float]]] = {}
    total = len(rows) * len(seeds)
    for number, (row, seed) in enumerate(itertools.product(rows, seeds), 1):
        print(f"\n[{number}/{total}] {row.name}, seed {seed}", flush=True)
        train, test = images_of(row.dataset, seed)
        if row.fraction is not None and not possible_fractions(train, [row.fraction]):
            continue
        run = dataclasses.replace(row.pretraining, seed=seed)
        if row.scratch:
            keras.utils.set_random_seed(seed)
            encoder = build_encoder(run.model)
        else:
            run_dir = pathlib.Path(runs_dir) / (run_name(run) + _suffix(pretraining))
            pretrain(run, run_dir, data_dir, download)
            encoder = load_encoder(run_dir)
        frozen = Frozen(encoder, train, test, run.views.eval_crop, seed)
        cell = output / "cells" / _file_name(f"{row.name}-seed{seed}")
        found = _judge(row, frozen, dataclasses.replace(settings, seed=seed), cell)
        for column, accuracy in found.items():
            values.setdefault(row.name, {}).setdefault(column, {})[str(seed)] = accuracy
            print(f"    {column:10} {accuracy:.2%}", flush=True)
    result = _results(table, preset, configs, settings, rows, values)
    _write(result, output)
    print(f"\n{(output / 'table.md').read_text()}\nTable, numbers and chart: {output}")
    return result


def _judge(row: Row, frozen: Frozen, settings: FinetuneConfig, cell: pathlib.Path) -> dict:
    """The accuracy by column."""
    if row.fraction is not None:
        (found,) = few_shot(frozen, [row.fraction], settings, cell).values()
        return {FINETUNED: found["finetuned"], LINEAR: found["linear"]}
    found = {}
    if FINETUNED in row.columns:
        tuned = finetune(frozen.encoder, frozen.train, frozen.test, settings, cell / "finetune")
        found[FINETUNED] = tuned["accuracy"]
    if LINEAR in row.columns:
        found[LINEAR] = linear_once(frozen, cell / "linear", settings.hidden_dim)["accuracy"]
    return found


def _suffix(pretraining) -> str:
    """Sets runs of other settings apart from those of the preset."""
    if not pretraining:
        return ""
    changes = sorted((name, str(value)) for name, value in pretraining.items())
    return f"-{zlib.crc32(repr(changes).encode()):08x}"


def _file_name(name: str) -> str:
    plain = name.replace(" -> ", "-to-").replace("%", "percent")
    return folder_name("-".join(plain.replace(",", " ").split()))


def _results(table, preset, configs, settings, rows, values) -> dict:
    entries = []
    for row in rows:
        for column, by_seed in values.get(row.name, {}).items():
            accuracies = list(by_seed.values())
            entries.append(
                {
                    "row": row.name,
                    "column": column,
                    "mean": float(np.mean(accuracies)),
                    "deviation": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
                    "seeds": by_seed,
                    "deck": DECK[table].get((row.name, column)),
                }
            )
    return {
        "table": table,
        "preset": preset,
        "pretraining": [to_dict(config) for config in configs],
        "training": to_dict(settings),
        "entries": entries,
    }


def _write(results: dict, output: pathlib.Path) -> None:
    """Writes the table as JSON, CSV, Markdown and a chart."""
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "table.json", results)
    entries, buffer = results["entries"], io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(["row", "column", "seed", "accuracy", "deck"])
    for entry in entries:
        deck = "" if entry["deck"] is None else entry["deck"] / 100
        for seed, accuracy in entry["seeds"].items():
            lines.writerow([entry["row"], entry["column"], seed, accuracy, deck])
    write_text(output / "table.csv", buffer.getvalue())
    write_text(output / "table.md", markdown(results))
    charts.table_chart(entries, output / "chart.png")


def markdown(results: dict) -> str:
    """Returns a table of `make_table` as Markdown, the deck's numbers beside ours."""
    filled = {entry["column"] for entry in results["entries"]}
    columns = [column for column in (FINETUNED, LINEAR) if column in filled]
    by_place = {(entry["row"], entry["column"]): entry for entry in results["entries"]}
    head = [f"{column}, %" for column in columns] + [f"{column}, deck" for column in columns]
    lines = [f"| {results['table']} | " + " | ".join(head) + " |", "|---" * (1 + len(head)) + "|"]
    for row in dict.fromkeys(entry["row"] for entry in results["entries"]):
        ours = [by_place.get((row, column)) for column in columns]
        cells = [_percent(entry) for entry in ours]
        cells += [f"{entry['deck']:.2f}" if entry and entry["deck"] else "" for entry in ours]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    seeds = max(len(entry["seeds"]) for entry in results["entries"])
    note = (
        f"Preset {results['preset']}, top-1 accuracy on test images; linear: heads fitted to "
        f"features computed once; seeds: {seeds}"
    )
    return "\n".join([*lines, "", note + (", mean ± deviation." if seeds > 1 else ".")]) + "\n"


def _percent(entry) -> str:
    if entry is None:
        return ""
    spread = "" if entry["deviation"] is None else f" ± {100 * entry['deviation']:.2f}"
    return f"{100 * entry['mean']:.2f}{spread}"
