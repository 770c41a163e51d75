"""The export at the end of `sit-keras train`: its place, and that a missing one is made up for."""

import shutil

import numpy as np
import pytest
from PIL import Image

from sit_keras.cli.main import call

SMALL = (
    "--preset=native32", "--epochs=1", "--batch_size=8", "--patch_size=16",
    "--set=warmup_epochs=0", "--set=model.num_layers=1", "--set=model.hidden_dim=24",
    "--set=model.num_heads=2", "--set=model.mlp_dim=24",
)  # fmt: skip
RUN = "folder-trip--2024--native32-seed0"


@pytest.fixture
def trip(tmp_path, monkeypatch, random):
    """A folder whose name TensorFlow would take for a pattern, in the working folder."""
    (tmp_path / "trip [2024]").mkdir()
    for i in range(24):
        pixels = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "trip [2024]" / f"{i:02d}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_missing_export_is_made_up_for_by_the_same_command(trip, capsys):
    command = ["--dataset=folder:trip [2024]", *SMALL]
    call("train", command)
    assert (trip / "runs" / RUN / "results.json").exists()
    assert (trip / "exports" / RUN / "1" / "saved_model.pb").exists()
    call("train", command)
    assert not (trip / "exports" / RUN / "2").exists()  # nothing is missing
    shutil.rmtree(trip / "exports")
    call("train", command)
    assert (trip / "exports" / RUN / "1" / "saved_model.pb").exists()
    assert capsys.readouterr().out.count("is finished already") == 2


def test_a_place_that_takes_no_export_is_refused_before_training(trip):
    (trip / "exports").write_text("a file of somebody")
    with pytest.raises(ValueError, match="exports is a file, so that no export fits"):
        call("train", ["--dataset=folder:trip [2024]", *SMALL])
    assert not (trip / "runs").exists()
