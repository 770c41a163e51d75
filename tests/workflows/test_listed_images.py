"""A text file of paths through the commands, with images that are not square."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

SMALL = (
    "--preset=digits", "--epochs=2", "--warmup_epochs=1", "--batch_size=8", "--holdout=0.25",
    "--set=model.hidden_dim=16", "--set=model.mlp_dim=16", "--set=model.num_layers=1",
)  # fmt: skip


def sit_keras(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    result = subprocess.run(
        [sys.executable, "-m", "sit_keras", *arguments],
        capture_output=True, text=True, cwd=folder, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, f"{arguments}: {result.stderr[-2000:]}"
    return result.stdout


@pytest.mark.slow
def test_a_list_is_examined_trained_on_evaluated_exported_and_embedded(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = ["# path, class"]
    for i in range(32):
        level, name = (60, "dark") if i % 2 else (180, "bright")
        pixels = random.integers(level, level + 60, (20, 44, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02}, a.png")
        lines.append(f'"photos/{i:02}, a.png",{name}')
    (tmp_path / "list.csv").write_text("\r\n".join([*lines, "photos/gone.png,dark"]))
    found = "list.csv: 32 images in 2 classes (bright, dark); left out: 1 missing file (gone.png)"
    settings = ("--dataset=list:list.csv", *SMALL, "--fit=pad")
    assert "No problem found." in sit_keras(tmp_path, "doctor", *settings, "--run_dir=doctor")
    said = sit_keras(tmp_path, "train", *settings, "--run_dir=runs/list")
    assert f"{tmp_path}/{found}" in said
    config = json.loads((tmp_path / "runs/list/config.json").read_text())
    assert config["preprocessing"]["fit"] == "pad"
    contract = next(tmp_path.glob("exports/list/1/**/contract.json"))
    assert json.loads(contract.read_text())["preprocessing"]["fit"] == "pad"
    said = sit_keras(tmp_path, "evaluate", "--run=runs/list", "--protocol=linear,knn", "--k=1")
    assert found in said and "1 neighbours" in said
    arguments = ("--encoder=runs/list", "--output=list.npz")
    said = sit_keras(tmp_path, "embed", "list:list.csv", *arguments)
    assert found in said and "32 images of 32 features" in said
