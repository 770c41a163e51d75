"""README and docs quote what is in `results`, and every result says how it was made."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from docs import judge, keep, made, ship, tables
from docs.made import Made
from sit_keras.config import shipped
from sit_keras.config.presets import run_config
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.folder import write_settings
from sit_keras.workflows import recipe_table
from sit_keras.workflows.pretrain import pretrain

KEPT = tables.kept()


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_its_results(page):
    assert tables.rewritten(page.read_text(), page.name) == page.read_text()


def test_every_result_is_quoted_and_every_quotation_has_one():
    quoted = {
        name
        for page in tables.PAGES
        for name in re.findall(r"<!-- table: ([^\n]*?) -->\n\|", page.read_text())
    }
    assert quoted == {folder.name for folder in KEPT}


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_a_result_has_its_table_and_says_how_it_was_made(folder):
    assert (folder / "table.md").read_text() == tables.table(folder)
    assert (folder / "README.md").read_text() == tables.readme(folder)
    how = Made.read(folder)
    assert how.command and how.hardware and re.fullmatch(r"20\d\d-\d\d-\d\d", how.date)
    assert how.commit and how.hours >= 0
    for config in folder.glob("seed*/config.json"):
        assert config.with_name("log.csv").exists() and config.with_name("curves.png").exists()


def test_the_readme_quotes_the_accuracies_of_the_cifar_10_encoder():
    found = json.loads((made.RESULTS / "cifar10_cpu" / "seed0" / "results.json").read_text())
    ours, pixels = (found["linear_scores"][kind]["accuracy"] for kind in ("trained", "pixels"))
    readme = (made.ROOT / "README.md").read_text()
    assert f"reaches {100 * ours:.0f} % by linear evaluation on CIFAR-10" in readme
    assert f"where raw pixels reach {100 * pixels:.0f} % (" in readme


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results of its own, with a kept run."""
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    leave = shutil.ignore_patterns("*.png", "seed1", "seed2")
    shutil.copytree(made.ROOT / "results" / "digits", tmp_path / "two", ignore=leave)
    return tmp_path


def test_a_page_that_says_something_else_is_rewritten_and_the_rest_of_it_stays(results):
    page = "a\n<!-- table: two -->\n| 99 % |\n<!-- end -->\nb\n<!-- end -->\n"
    new = tables.rewritten(page, "page")
    assert new == page.replace("| 99 % |\n", tables.table(results / "two"))
    assert tables.rewritten(new, "page") == new


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- table: two -->\n", "page has a <!-- table: NAME --> without an <!-- end -->"),
        (
            "<!-- table: two -->\n<!-- table: two -->\n<!-- end -->\n",
            "page has a <!-- table: NAME --> without",
        ),
        ("<!-- table: none -->\n<!-- end -->\n", "table of none, which is not in results"),
    ],
)
def test_a_quotation_that_leads_nowhere_is_named(page, message, results):
    with pytest.raises(ValueError, match=message):
        tables.rewritten(page, "page")


def test_runs_of_several_seeds_make_one_table_and_unfinished_ones_are_counted(results):
    first = results / "two" / "seed0"
    second = shutil.copytree(first, results / "two" / "seed1")
    for name, change in (
        ("config.json", lambda values: values.update(seed=1)),
        ("results.json", lambda v: v["knn_scores"]["trained"].update(accuracy=0.125)),
    ):
        values = json.loads((second / name).read_text())
        change(values)
        (second / name).write_text(json.dumps(values))
    accuracy = json.loads((first / "results.json").read_text())["knn_accuracy"]["trained"]
    table = tables.table(results / "two")
    assert "| two seeds (`0`, `1`) | linear evaluation |" in table
    assert f"| {100 * accuracy:.1f} %, 12.5 % |" in table
    (second / "results.json").unlink()
    assert tables.table(results / "two") == "1 of 2 runs are not finished yet.\n"


def test_a_run_is_kept_with_how_it_was_made_and_an_unfinished_one_with_its_state(results, tmp_path):
    source = shutil.copytree(results / "two" / "seed0", tmp_path / "run")
    (source / "sheets").mkdir()
    for name in ("epoch_0002.png", "epoch_0010.png"):
        (source / "sheets" / name).write_text(name)
    folder = keep.keep("mine", [source], "python train.py", "a machine", "abc")
    how = Made.read(folder)
    seconds = json.loads((source / "results.json").read_text())["train_seconds"]
    assert (how.command, how.hardware, how.commit) == ("python train.py", "a machine", "abc")
    assert how.hours == round(seconds / 3600, 2)
    assert (folder / "seed0" / "sheet.png").read_text() == "epoch_0010.png"
    assert (folder / "seed0" / "curves.png").stat().st_size > 1000
    assert "| command | `python train.py` |" in (folder / "README.md").read_text()

    (source / "results.json").unlink()
    (source / "checkpoints").mkdir()
    (source / "checkpoints" / "ckpt-7.npz").write_text("state")
    keep.keep("mine", [source], "python train.py", "a machine", "abc")
    assert (folder / "seed0" / "checkpoints" / "ckpt-7.npz").read_text() == "state"
    assert not (folder / "seed0" / "sheets").exists()
    assert "1 of 1 runs are not finished yet" in (folder / "table.md").read_text()
    with pytest.raises(ValueError, match="is no folder of a run, of benchmark-recipes or of a"):
        keep.keep("mine", [tmp_path / "sheets"], "", "", "")


def test_the_hours_of_a_comparison_are_those_of_all_its_rows_and_seeds(results, tmp_path):
    shutil.copytree(made.ROOT / "results" / "recipes", tmp_path / "rows")
    found = recipe_table.records(tmp_path / "rows")
    folder = keep.keep("rows_kept", [tmp_path / "rows"], "sit-keras", "a machine", "abc")
    seconds = [record["train_seconds"] for record in found if record["seed"] is not None]
    assert Made.read(folder).hours == round(sum(seconds) / 3600, 2) > 1
    assert (folder / "table.md").read_text() == tables.table(tmp_path / "rows")


def test_evaluations_that_are_kept_make_a_second_table(results, tmp_path):
    one, other = tmp_path / "1_in_10", tmp_path / "new_weights"
    for folder, values in (
        (one, {"linear": {"accuracy": 0.625}, "knn": {"scores": {"20": {"accuracy": 0.5}}}}),
        (other, {"finetune": {"accuracy": 0.25, "accuracy_interval": [0.2, 0.3]}}),
    ):
        folder.mkdir()
        counts = {"train_images": 5000, "test_images": 400}
        (folder / "results.json").write_text(json.dumps(counts | values))
    source = results / "two" / "seed0"
    folder = keep.keep("mine", [source], "python train.py", "a machine", "abc", [other, one])
    assert (folder / "table.md").read_text().splitlines()[-2:] == [
        "| 1 in 10 | 5,000 | 400 | 62.5 % | 50.0 % |  |",
        "| new weights | 5,000 | 400 |  |  | 25.0 % (20.0 to 30.0) |",
    ]


@pytest.mark.slow
def test_a_run_that_goes_on_is_judged_as_it_is_now(results, tmp_path):
    config = run_config("digits", dataset="digits", epochs=3, steps_per_epoch=2)
    run = tmp_path / "run"

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, run, callbacks=[Stop()])
    found = judge.judge(run, tmp_path / "judged", None, hours=0.5)
    assert found["epochs_done"] == 2 and found["steps"] == 4 and found["probe_train_images"] == 1437
    assert "epoch 2 of a run of 3 epochs" in (tmp_path / "judged" / "model_card.md").read_text()
    folder = keep.keep("mine", [tmp_path / "judged"], "python train.py", "a machine", "abc")
    table = (folder / "table.md").read_text()
    assert "| SiT, 2 of 3 epochs so far |" in table and "| principal components of the p" in table
    # The principal components of the digits are about as good to neighbours as their pixels.
    assert found["knn_accuracy"]["components"] > 0.9 < found["knn_accuracy"]["pixels"]
    assert Made.read(folder).hours == 0.5


def test_a_run_without_test_images_is_not_judged_and_leaves_nothing(tmp_path):
    for i in range(3):
        path = tmp_path / "photos" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 80 * i, np.uint8)).save(path)
    dataset = f"folder:{tmp_path / 'photos'}"
    (tmp_path / "run").mkdir()
    write_settings(tmp_path / "run", run_config("digits", dataset=dataset))
    with pytest.raises(ValueError, match="has no images to test on, so .* is not judged"):
        judge.judge(tmp_path / "run", tmp_path / "judged", None, hours=1.0)
    assert not (tmp_path / "judged").exists()


def test_an_encoder_that_is_shipped_is_that_of_its_run_with_a_card(results, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(ship, "RESULTS", results)
    run = tmp_path / "run"
    run.mkdir()
    encoder = SiTBackbone((8, 8, 3), 4, 8, 1, 2, 8)
    encoder.save(run / "encoder.keras")
    (run / "model_card.md").write_text(
        'from_preset("encoder.keras"), every setting is in `config.json`'
    )
    (run / "results.json").write_text('{"train_seconds": 5400.0}')  # the result has two runs
    folder = ship.ship("mine", run, "two", "Anybody may use it.")
    card = (folder / "card.md").read_text()
    assert 'from_preset("mine"), every setting is in `results/two`' in card
    assert "| commit |" in card and "Anybody may use it." in card
    assert "| hours of training | 1.50 |" in card
    loaded = SiTBackbone.from_preset("mine")
    for old, new in zip(encoder.get_weights(), loaded.get_weights(), strict=True):
        assert (old == new).all()
