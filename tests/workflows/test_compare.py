"""`sit-keras compare`: what differs between runs, and what came out."""

import csv
import json

import pytest
from PIL import Image

from sit_keras.cli.main import main
from sit_keras.workflows.compare import compare
from tests.runs.test_summary import RESULTS, write_run


def test_runs_are_compared_in_one_table_and_a_chart(tmp_path, capsys):
    runs = [
        write_run(tmp_path / "runs" / "short", epochs=20),
        write_run(tmp_path / "runs" / "long", epochs=80, results=None),
    ]
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "file.txt").write_text("x")
    output = tmp_path / "out"
    main(["compare", *map(str, sorted((tmp_path / "runs").iterdir())), f"--output={output}"])
    printed = capsys.readouterr().out
    (left_out,) = [line for line in printed.splitlines() if line.startswith("Left out")]
    assert left_out.endswith("runs/notes.") and "file.txt" in left_out
    assert max(map(len, printed.splitlines()[1:-1])) <= 100
    assert "1: long" in printed and "80.0%" in printed and "epochs=80" in printed
    assert "not finished: epoch 2 of 80" in printed and "learning_rate" not in printed
    rows = list(csv.DictReader((output / "table.csv").open()))
    assert [(row["run"], row["epochs"], row["linear"]) for row in rows] == [
        ("long", "80", ""), ("short", "20", "0.8"),
    ]  # fmt: skip
    assert "batch_size" not in rows[0] and "epochs" in rows[0]
    markdown = (output / "table.md").read_text()
    assert markdown.startswith("| run | epochs | rot | con |") and "| - |" in markdown
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    with Image.open(output / "curves.png") as chart:
        assert chart.width > 1000
    assert [each.name for each in compare(runs, output)] == ["short", "long"]  # over the old one


def test_the_trials_of_a_search_are_compared_and_its_best_is_marked(tmp_path, capsys):
    search = tmp_path / "tuning"
    for name, rate in (("0", 0.1), ("1", 0.2)):
        write_run(search / "trials" / name, learning_rate=rate)
    (search / "trials" / "broken").mkdir()
    (search / "results.json").write_text(json.dumps({"best": {"trial": "1"}}))
    compare([search], tmp_path / "out")
    printed = capsys.readouterr().out
    assert "Left out, as they hold no run:" in printed and "broken" in printed
    (line,) = [line for line in printed.splitlines() if "best of the search tuning" in line]
    assert line.startswith("  2: ") and "learning_rate=0.2" in printed
    assert "best of the search tuning" in (tmp_path / "out" / "table.md").read_text()


def test_a_setting_that_an_earlier_version_did_not_know_is_no_difference(tmp_path, capsys):
    old = {"dataset": "digits", "epochs": 80, "batch_size": 64, "gone": 1}
    runs = [write_run(tmp_path / "old", config=old), write_run(tmp_path / "new", batch_size=32)]
    compare([*runs, runs[0]], tmp_path / "out")
    printed = capsys.readouterr().out
    assert "batch_size=64" in printed and "batch_size=32" in printed
    assert "gone" not in printed and "temperature" not in printed and "3:" not in printed


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    for above in ("a", "b"):
        write_run(tmp_path / above / "seed|0", results=RESULTS)
    found = compare([tmp_path / "a" / "seed|0", tmp_path / "b" / "seed|0"], tmp_path / "out")
    assert [each.name for each in found] == ["a/seed|0", "b/seed|0"]
    assert "a/seed\\|0" in (tmp_path / "out" / "table.md").read_text()


def test_folders_without_a_run_and_an_output_that_is_one_are_refused(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match="There is no run in .*nothing.*: give folders of train"):
        compare([tmp_path / "nothing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is one of the runs: give another folder with --output"):
        compare([run], run)
    assert not (run / "table.md").exists()
