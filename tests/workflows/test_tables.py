"""The paper's tables: their rows, finished cells, and the files that are written."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from PIL import Image

from sit_keras.config.checks import TASKS
from sit_keras.config.presets import run_config
from sit_keras.evaluation.paper import PAPER
from sit_keras.plots import charts
from sit_keras.workflows.table_files import markdown, write_table
from sit_keras.workflows.tables import _titles, make_table, plan

PRETRAINING = {
    "model.image_size": 8, "model.patch_size": 4, "model.hidden_dim": 16, "model.num_layers": 2,
    "model.num_heads": 2, "model.mlp_dim": 16, "model.projection_dim": 8, "epochs": 2,
    "warmup_epochs": 1, "steps_per_epoch": 4,
}  # fmt: skip
TRAINING = {"epochs": 2, "warmup_epochs": 1, "batch_size": 128}


@pytest.mark.parametrize("table", PAPER)
def test_every_number_of_the_paper_has_a_row_and_a_column(table):
    datasets = ["cifar10", "cifar100", "stl10", "tiny_imagenet"]
    rows = plan(table, [run_config("paper", dataset=name) for name in datasets])
    places = {(row.name, column) for row in rows for column in row.columns}
    assert set(PAPER[table]) <= places
    assert len({row.name for row in rows}) == len(rows)


def test_the_ablation_has_a_row_for_each_set_of_tasks_and_one_for_learned_weights():
    rows = plan("ablation", [run_config("paper", dataset="stl10")])
    assert len(rows) == 9
    assert [row.scratch for row in rows] == [True] + 8 * [False]
    for row in rows[1:]:
        config = row.pretraining
        assert config.weighting == ("uncertainty" if row is rows[-1] else "fixed")
        assert config.task_weights is None
        named = row.name.removeprefix("stl10, ").split(" + ")
        assert list(config.tasks) == (list(TASKS) if named[0].startswith("all") else named)


def test_impossible_tables_are_refused():
    config = run_config("digits")
    with pytest.raises(ValueError, match="needs two data sets, received digits"):
        plan("transfer", [config])
    with pytest.raises(ValueError, match="Unknown table 'scores': choose one of linear"):
        plan("scores", [config])
    for name in ("seed", "tasks"):
        with pytest.raises(ValueError, match=f"{name} of --pretraining follow from"):
            make_table("ablation", ["digits"], "digits", pretraining={name: "x"})
    with pytest.raises(ValueError, match="frozen of --training follow from"):
        make_table("linear", ["digits"], "digits", training={"frozen": True})
    with pytest.raises(ValueError, match="Unknown setting 'epoch' of RunConfig"):
        make_table("linear", ["digits"], "digits", pretraining={"epoch": 3})


def test_the_markdown_has_our_numbers_beside_those_of_the_paper():
    common = {"paper": None, "deviation": None}
    a = {"row": "a", "column": "linear", "mean": 0.5, "seeds": {"0": 0.49, "1": 0.51}}
    b = {"row": "b", "column": "fine-tuned", "mean": 0.25, "seeds": {"0": 0.25}}
    entries = [{**common, **a, "deviation": 0.01, "paper": 60.5}, {**common, **b}]
    text = markdown({"table": "linear", "preset": "digits", "entries": entries})
    assert "| linear | fine-tuned, % | linear, % | fine-tuned, paper | linear, paper |" in text
    assert "| a |  | 50.00 ± 1.00 |  | 60.50 |" in text
    assert "| b | 25.00 |  |  |  |" in text


def test_rows_of_folders_are_shown_without_their_paths(tmp_path):
    """Folders of one name in different places keep rows of their own."""
    names = [f"folder:{tmp_path}/{place}/a|b" for place in ("one", "two")]
    rows = plan("finetune", [run_config("digits", dataset=name) for name in names])
    titles = list(_titles(rows).values())
    assert titles == [
        "folder:a|b, from scratch", "folder:a|b",
        "folder:a|b, from scratch, another", "folder:a|b, another",
    ]  # fmt: skip
    (row, _) = _titles(plan("transfer", [run_config("digits", dataset=n) for n in names])).values()
    assert row == "folder:a|b -> folder:a|b"
    common = {"paper": None, "deviation": None, "column": "linear", "mean": 0.5}
    entries = [{**common, "row": title, "seeds": {"0": 0.5}} for title in titles]
    largest = [{"dataset": "folder:a|b", "accuracy": 0.25, "accuracy_interval": [0.2, 0.3]}]
    results = {
        "table": "linear", "preset": "digits", "entries": entries, "largest_class": largest,
    }  # fmt: skip
    write_table(results, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| folder:a\\|b, another | 50.00 |" in text
    assert "Always the largest class of folder:a\\|b would get 25.0% (20.0 to 30.0)." in text
    assert (tmp_path / ".sit-keras").exists()  # no images to train on


def test_the_chart_marks_the_numbers_of_the_paper(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    entry = {"column": "linear", "mean": 0.5, "deviation": None}
    entries = [{**entry, "row": "a", "paper": 60.5}, {**entry, "row": "b", "paper": None}]
    charts.table_chart(entries, tmp_path / "chart.png")
    (marks,) = figures[0].axes[0].lines
    assert marks.get_label() == "linear, paper" and list(marks.get_xdata()) == [60.5]


@pytest.mark.slow
def test_a_table_that_was_killed_is_completed_by_the_same_call(tmp_path):
    """After kill -9 in the second cell the first is kept, and the table is that of a whole run."""
    expected = make_table(
        "finetune", ["digits"], "digits", [0], tmp_path / "whole", tmp_path / "whole-runs",
        pretraining=PRETRAINING, training=TRAINING,
    )  # fmt: skip
    command = [
        sys.executable, str(ROOT / "evaluate.py"), "--table=finetune", "--dataset=digits",
        f"--output={tmp_path / 'cut'}", f"--runs_dir={tmp_path / 'runs'}",
        *(f"--pretraining={name}={value}" for name, value in PRETRAINING.items()),
        *(f"--training={name}={value}" for name, value in TRAINING.items()),
    ]  # fmt: skip
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        second = tmp_path / "cut" / "cells" / "digits-seed0" / "finetune" / "settings.json"
        deadline = time.monotonic() + 240
        while not second.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert second.exists(), (tmp_path / "output").read_text()
    assert not (second.parent / "results.json").exists()
    first = tmp_path / "cut" / "cells" / "digits-from-scratch-seed0" / "finetune"
    (run,) = (tmp_path / "runs").glob("digits-digits-seed0-*")  # its settings are in its name
    finished = [*first.iterdir(), run / "results.json", run / "encoder.keras"]
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished if path.is_file()
    }
    assert first / "results.json" in before

    results = make_table(
        "finetune", ["digits"], "digits", [0], tmp_path / "cut", tmp_path / "runs",
        pretraining=PRETRAINING, training=TRAINING,
    )  # fmt: skip
    assert results == expected
    for path, (when, content) in before.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == (when, content), path
    for name in ("table.md", "table.csv", "table.json"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert Image.open(tmp_path / "cut" / "chart.png").width > 300
    rows = list(csv.DictReader((tmp_path / "cut" / "table.csv").open()))
    assert set(rows[0]) == {"row", "column", "seed", "accuracy", "paper"}
    assert [row["row"] for row in rows] == ["digits, from scratch", "digits"]
    saved = json.loads((tmp_path / "cut" / "table.json").read_text())
    assert saved == results
    assert np.allclose(
        [float(row["accuracy"]) for row in rows], [e["mean"] for e in saved["entries"]]
    )
    with pytest.raises(ValueError, match="holds results of other settings .epochs: 2 -> 3"):
        make_table(
            "finetune", ["digits"], "digits", [0], tmp_path / "cut", tmp_path / "runs",
            pretraining=PRETRAINING, training={**TRAINING, "epochs": 3},
        )  # fmt: skip
