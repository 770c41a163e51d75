"""The way of a new user at the top of docs/own_images.md runs, line by line, as it stands."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from bands_case import write_bands
from conftest import ROOT
from PIL import Image

PAGE = (ROOT / "docs" / "own_images.md").read_text()
# What a line leaves behind in the working folder, by its verb.
LEFT = {
    "doctor": "runs/photos/doctor.png",
    "train": "exports/photos/1/saved_model.pb",
    "report": "runs/photos/report.html",
    "embed": "photos.npz",
    "search": "found.html",
    "duplicates": "pairs.html",
    "evaluate": "runs/photos/evaluation",
    "export": "exports/photos/2/saved_model.pb",
}


def way(heading="# Your own images"):
    """The lines of the first block below a heading, as words."""
    below = PAGE[PAGE.index(f"{heading}\n") :]
    block = re.search(r"^```bash\n(.*?)^```", below, re.DOTALL | re.MULTILINE)[1]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def test_the_way_has_every_step():
    first, *others = way()
    assert first[0] == "train" and first[-1] == "--dry_run"
    assert [verb for verb, *_ in others] == list(LEFT)


def typed(folder, verb, *arguments):
    """The result of a command in a folder; training is two epochs long."""
    short = ["--epochs=2"] if verb == "train" else []
    result = subprocess.run(
        [sys.executable, "-m", "sit_keras", verb, *arguments, *short],
        capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, f"{verb}: {result.stderr[-2000:]}"
    return result


@pytest.mark.slow
def test_every_line_of_the_way_runs_as_it_stands(tmp_path):
    """The training is short, two epochs, and all else is as a reader types it."""
    random = np.random.default_rng(0)
    for i in range(60):
        level = 100 * (i % 2)  # the classes differ in their brightness
        folder = tmp_path / "my" / "photos" / ("light" if level else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(level, level + 150, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    Image.fromarray(pixels).save(tmp_path / "new.jpg")
    for verb, *arguments in way():
        dry = "--dry_run" in arguments
        result = typed(tmp_path, verb, *arguments)
        if dry:
            assert len(result.stdout.splitlines()) <= 15 and not (tmp_path / "runs").exists()
        else:
            assert (tmp_path / LEFT[verb]).exists(), verb
        if verb == "train" and not dry:
            assert "too few" in result.stdout  # the answer to two epochs
        if verb == "search":
            assert "my/photos/light/" in result.stdout.splitlines()[1]  # it is a light one


@pytest.mark.slow
def test_every_line_about_satellite_images_runs_as_it_stands(tmp_path):
    write_bands(tmp_path / "my" / "fields")
    said = {}
    for verb, *arguments in way("## Satellite and microscope images"):
        said[verb] = typed(tmp_path, verb, *arguments).stdout
    assert list(said) == ["doctor", "train", "evaluate", "embed", "export", "verify"]
    assert "40 images in 2 classes (across, down), 20 to test" in said["doctor"]
    assert "of 5 channels were measured on" in said["doctor"]
    assert "Images have 5 channels. Left out, as for three alone: views.saturation" in said["train"]
    assert (tmp_path / "fields.npz").is_file() and "60 images of" in said["embed"]
    assert "serving_default" in said["verify"] and "serving_bytes" not in said["verify"]
