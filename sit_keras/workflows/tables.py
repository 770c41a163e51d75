"""Fills in the paper's tables, cell by cell; a finished cell is not computed again.

A row is an encoder, pre-trained or new, with the way it is evaluated. A column is an accuracy.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import typing
import zlib

import numpy as np

from sit_keras.config.checks import TASKS, check_choice
from sit_keras.config.choices import TABLES
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.presets import finetune_config, run_config
from sit_keras.config.serialization import changed, to_dict
from sit_keras.config.settings import OF_LEARNED_WEIGHTS, RunConfig
from sit_keras.data.splits import possible_fractions
from sit_keras.evaluation.finetune import finetune
from sit_keras.evaluation.paper import FINETUNED, LINEAR, PAPER
from sit_keras.evaluation.protocols import FrozenEncoder, cached_linear, few_shot
from sit_keras.evaluation.scores import largest_class_scores
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.seeding import seeded
from sit_keras.runs.data import with_statistics
from sit_keras.runs.folder import folder_name, refuse_run, run_name
from sit_keras.runs.shown_names import shown_dataset, shown_settings
from sit_keras.workflows.evaluate import FRACTIONS, refuse_settings
from sit_keras.workflows.labelled_images import labelled_images
from sit_keras.workflows.pretrain import pretrain
from sit_keras.workflows.table_files import write_table


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: an encoder and the way it is evaluated.

    Args:
        name: str. The name of the row.
        pretraining: RunConfig of the encoder.
        dataset: str. The data set that it is evaluated on.
        columns: the accuracies to compute, of LINEAR and FINETUNED.
        scratch: bool. Evaluate the same network with new weights instead.
        fraction: float or None. For few-shot: fine-tune on this share of the labels, and evaluate
            linear heads on the fine-tuned encoder.
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
        ValueError: for an unknown table, or a transfer with fewer than two data sets.
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
                    fixed: dict[str, typing.Any] = {
                        "weighting": "fixed",
                        "task_weights": None,
                        **OF_LEARNED_WEIGHTS,
                    }
                    part = dataclasses.replace(config, tasks=tasks, **fixed)
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
    recipe: str = "paper",
) -> dict:
    """Fills in one of the paper's tables, and pre-trains the encoders that are missing.

    Finished runs and cells are not computed again, so an interrupted call can be repeated.

    Args:
        table: str. One of `TABLES`.
        datasets: names, as for `sit_keras.data.load_source`.
        preset: str. As for `run_config`.
        seeds: ints. Each cell is computed for each of them; the table shows mean and deviation.
        output: the folder of the table. Default: `tables/TABLE-DATASETS-PRESET`, with the recipe
            if it is not `paper`. Gets `table.md`, `table.csv`, `table.json`, `chart.png`, and a
            folder for each cell under `cells/`.
        runs_dir: the folder of the pre-trained runs, as of `sit-keras train`.
        data_dir, download: as for `sit_keras.data.load_source`.
        pretraining: dict or None. Settings of `RunConfig` that differ from those of the preset, as
            for `sit_keras.config.serialization.changed`.
        training: dict or None. The same for `FinetuneConfig`.
        recipe: str. As for `run_config`.

    Returns:
        What `table.json` holds.

    Raises:
        ValueError: as for `plan`, for settings that do not fit, or folders with results of other
            settings.
    """
    refuse_settings("pretraining", pretraining, ("dataset", "preset", "recipe", "seed"))
    if table == "ablation":
        refuse_settings("pretraining", pretraining, ("tasks", "weighting", "task_weights"))
    refuse_settings("training", training, ("frozen", "seed"))
    configs = [
        changed(run_config(preset, recipe=recipe, dataset=name), pretraining or {})
        for name in datasets
    ]
    rows = plan(table, configs)
    names = "+".join(map(folder_name, datasets))
    start = preset if recipe == "paper" else f"{preset}-{recipe}"
    output = pathlib.Path(output or f"tables/{table}-{names}-{start}")
    refuse_run(output)
    settings = changed(finetune_config(preset, configs[0].views), training or {})
    images_of = functools.cache(
        lambda dataset, seed: labelled_images(
            dataset, data_dir, download, seed, configs[0].value_range, configs[0].model.channels
        )
    )
    values: dict[str, dict[str, dict[str, float]]] = {}
    largest: dict[str, dict] = {}
    total = len(rows) * len(seeds)
    for number, (row, seed) in enumerate(itertools.product(rows, seeds), 1):
        print(f"\n[{number}/{total}] {row.name}, seed {seed}", flush=True)
        train, test, _ = images_of(row.dataset, seed)
        largest.setdefault(row.dataset, largest_class_scores(train, test))
        if row.fraction is not None and not possible_fractions(train, [row.fraction]):
            continue
        run = dataclasses.replace(row.pretraining, seed=seed)
        if row.scratch:
            run = with_statistics(run, data_dir, download)
            with seeded(seed):
                encoder = SiTBackbone(
                    **run.model.backbone_arguments(), preprocessing=run.preprocessing
                )
        else:
            run_dir = pathlib.Path(runs_dir) / (run_name(run) + _suffix(pretraining))
            pretrain(run, run_dir, data_dir, download)
            encoder = SiTBackbone.from_preset(run_dir)
        frozen = FrozenEncoder(encoder, train, test, seed)
        cell = output / "cells" / _file_name(f"{row.name}-seed{seed}")
        accuracies = _evaluate(row, frozen, dataclasses.replace(settings, seed=seed), cell)
        for column, accuracy in accuracies.items():
            values.setdefault(row.name, {}).setdefault(column, {})[str(seed)] = accuracy
            print(f"    {column:10} {accuracy:.2%}", flush=True)
    result = _results(table, preset, recipe, configs, settings, rows, values, largest)
    write_table(result, output)
    print(f"\n{(output / 'table.md').read_text()}\nTable, numbers and chart: {output}")
    return result


def _evaluate(
    row: Row, frozen: FrozenEncoder, settings: FinetuneConfig, cell: pathlib.Path
) -> dict[str, float]:
    """Returns the accuracies of a row by column."""
    if row.fraction is not None:
        (values,) = few_shot(frozen, [row.fraction], settings, cell).values()
        return {FINETUNED: values["finetuned"], LINEAR: values["linear"]}
    accuracies = {}
    if FINETUNED in row.columns:
        results = finetune(frozen.encoder, frozen.train, frozen.test, settings, cell / "finetune")
        accuracies[FINETUNED] = results["accuracy"]
    if LINEAR in row.columns:
        results = cached_linear(frozen, cell / "linear", settings.hidden_dim)
        accuracies[LINEAR] = results["accuracy"]
    return accuracies


def _suffix(pretraining) -> str:
    """Returns an ending for the names of runs whose settings are not the preset's."""
    if not pretraining:
        return ""
    changes = sorted((name, str(value)) for name, value in pretraining.items())
    return f"-{zlib.crc32(repr(changes).encode()):08x}"


def _file_name(name: str) -> str:
    plain = name.replace(" -> ", "-to-").replace("%", "percent")
    return folder_name("-".join(plain.replace(",", " ").split()))


def _results(table, preset, recipe, configs, settings, rows, values, largest) -> dict:
    entries, titles = [], _titles(rows)
    for row in rows:
        for column, by_seed in values.get(row.name, {}).items():
            accuracies = list(by_seed.values())
            entries.append(
                {
                    "row": titles[row.name],
                    "column": column,
                    "mean": float(np.mean(accuracies)),
                    "deviation": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
                    "seeds": by_seed,
                    "paper": PAPER[table].get((row.name, column)),
                }
            )
    return {
        "table": table,
        "preset": preset,
        "recipe": recipe,
        "pretraining": [shown_settings(to_dict(config)) for config in configs],
        "training": to_dict(settings),
        "largest_class": [
            {"dataset": shown_dataset(name), **scores} for name, scores in largest.items()
        ],
        "entries": entries,
    }


def _titles(rows) -> dict[str, str]:
    """Returns the names of rows as they are shown: without the paths of folders."""
    titles: dict[str, str] = {}
    for row in rows:
        title = row.name
        for dataset in (row.pretraining.dataset, row.dataset):
            title = title.replace(dataset, shown_dataset(dataset))
        while title in titles.values():  # of another folder of the same name
            title += ", another"
        titles[row.name] = title
    return titles
