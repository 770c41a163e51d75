"""An export says how good its pretext heads are, and heads that guess are not believed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from serving_case import contract_of

from sit_keras.cli.main import call
from sit_keras.serving.contract import contract
from sit_keras.serving.export import _load
from sit_keras.workflows.orient import orient
from sit_keras.workflows.outliers import outliers

LOG = """epoch,reconstruction,rotation_accuracy,val_reconstruction,val_rotation_accuracy
0,1.0,0.25,1.1,0.26
1,0.2,0.75,0.25,0.7
"""


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.full((16, 16, 3), 60 * i, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def export_with(exported, tmp_path):
    """Returns an export of the same model whose heads were measured as is said."""

    def make(**heads):
        copy = tmp_path / "export" / "1"
        shutil.copytree(exported, copy, dirs_exist_ok=True)
        about = {**contract_of(exported), "heads": heads}
        (copy / "assets" / "contract.json").write_text(json.dumps(about))
        return copy

    return make


def rotation(accuracy):
    return {"accuracy": accuracy, "of": "held-out", "chance": 0.25}


def reconstruction(error):
    return {"error": error, "of": "held-out", "flat_error": 0.8}


def test_the_contract_has_how_good_the_heads_were_at_the_end_of_the_run(run_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    assert _load(run, None).heads == {}  # no log, nothing known
    (run / "log.csv").write_text(LOG)
    heads = _load(run, None).heads
    assert heads["rotation"] == {"accuracy": 0.7, "of": "held-out", "chance": 0.25}
    assert heads["reconstruction"] == {"error": 0.25, "of": "held-out"}
    losses = {"reconstruction": 0.2}
    results = {"steps": 1, "train_seconds": 1, "losses": losses, "flat_error": 0.9}
    (run / "results.json").write_text(json.dumps(results))
    parts = _load(run, None)
    assert parts.heads["reconstruction"]["flat_error"] == 0.9
    assert contract({}, parts, "float32")["heads"] == parts.heads
    (run / "log.csv").write_text("\n".join(line.rsplit(",", 2)[0] for line in LOG.split()) + "\n")
    assert _load(run, None).heads["rotation"] == {**rotation(0.75), "of": "training"}


@pytest.mark.parametrize("accuracy", [0.2, 0.262, 0.35])
def test_a_rotation_head_at_chance_turns_no_image(export_with, photos, tmp_path, accuracy):
    version = export_with(rotation=rotation(accuracy))
    complaint = f"right on {100 * accuracy:.1f} % of held-out views, and chance is 25.0 %: it can"
    with pytest.raises(ValueError, match=complaint) as error:
        orient(photos, version, write=tmp_path / "upright")
    assert "Train longer" in str(error.value) and not (tmp_path / "upright").exists()


def test_a_rotation_head_that_is_often_wrong_is_said_to_be(export_with, photos, capsys):
    call("orient", [str(photos), f"--model={export_with(rotation=rotation(0.45))}"])
    printed = capsys.readouterr()
    assert "45.0 % of held-out views" in printed.err and "many of its answers are wr" in printed.err
    assert "do not stand upright" in printed.out
    orient(photos, export_with(rotation=rotation(0.9)))
    text = capsys.readouterr().err
    assert "right on 90.0 %" in text and "wrong" not in text


def test_a_reconstruction_head_no_better_than_one_colour_ranks_nothing(
    export_with, photos, tmp_path, capsys
):
    sheet = tmp_path / "sheet.png"
    with pytest.raises(
        ValueError, match="error of 0.75 on held-out views, .* one colour has 0.80:"
    ):
        outliers(photos, export_with(reconstruction=reconstruction(0.75)), sheet=sheet)
    assert not sheet.exists()
    # The rotation head is not asked.
    version = export_with(reconstruction=reconstruction(0.2), rotation=rotation(0.25))
    assert len(outliers(photos, version)) == 3
    assert "error of 0.20 on held-out views" in capsys.readouterr().err


def test_an_export_of_an_earlier_version_works_and_says_that_nothing_is_known(
    export_with, photos, capsys
):
    version = export_with()
    about = contract_of(version)
    del about["heads"]
    (version / "assets" / "contract.json").write_text(json.dumps(about))
    assert len(outliers(photos, version)) == 3
    orient(photos, version)
    text = capsys.readouterr().err
    for task in ("rotation", "reconstruction"):
        assert f"does not say how good its {task} head is" in text
