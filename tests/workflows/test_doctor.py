"""The doctor reports no problem where there is none, and finds each one that is made on purpose."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sit_keras.config.presets import run_config
from sit_keras.workflows import doctor

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--image_size=8", "--patch_size=4", "--batch_size=16"]


def call_doctor(root, run_dir, *arguments):
    return subprocess.run(
        [sys.executable, root / "train.py", "--doctor", f"--run_dir={run_dir}", *SMALL, *arguments],
        capture_output=True, text=True, cwd=root, env={"PYTHONPATH": str(root)},
    )  # fmt: skip


@pytest.mark.slow
def test_a_folder_of_images_is_described_and_has_no_problem(tmp_path):
    """Eight of the images are copies of another one, and one has a single colour."""
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(40):
        pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        pixels[:] = 7 if i == 0 else pixels
        for copy in range(1 + (1 <= i <= 8)):
            Image.fromarray(pixels).save(tmp_path / "images" / f"{i}-{copy}.png")
    result = call_doctor(
        ROOT, tmp_path / "run", f"--dataset=folder:{tmp_path / 'images'}", "--preset=native32",
        "--holdout=0",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert "tensorflow 2." in found["versions"] and "CPU cores" in found["devices"]
    assert found["images"].startswith("48 to train on (0 labelled, 0 classes)")
    assert found["steps"].startswith("3 of 16 images an epoch")
    # Of 48 * 47 / 2 = 1128 pairs, 8 are copies; a batch of 16 has 120 pairs.
    assert found["copies"].startswith("8 of 48 examined images are copies of another: about 0.85")
    assert "1 of 48 examined images have one colour only" in result.stdout
    assert "gradients agree" in found["replicas"]
    assert Image.open(tmp_path / "run" / "doctor.png").width > 600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("pretrainer.py", "share.divide(total)", "total"),
        ("replicas.py", "context.all_gather(x, axis=0), share(x).first", "x, 0"),
    ],
    ids=["1/R", "gather"],
)  # fmt: skip
def test_a_broken_reduction_is_found(tmp_path, file, right, wrong):
    shutil.copytree(ROOT / "sit_keras", tmp_path / "sit_keras")
    shutil.copy(ROOT / "train.py", tmp_path)
    path = tmp_path / "sit_keras" / "training" / file
    assert path.read_text().count(right) == 1
    path.write_text(path.read_text().replace(right, wrong))
    result = call_doctor(tmp_path, tmp_path / "run")
    assert result.returncode == 1
    assert "gradients DIFFER" in result.stdout
    assert "train.py: The examination found 1 problem, see above." in result.stderr


@pytest.mark.slow
def test_a_step_without_a_finite_gradient_is_found(tmp_path):
    result = call_doctor(ROOT, tmp_path / "run", "--temperature=1e-39")
    assert result.returncode == 1 and "no finite gradient" in result.stdout


def test_the_doctor_refuses_to_run_after_tensorflow_has_started(tmp_path):
    tf.constant(0)
    with pytest.raises(ValueError, match="run `sit-keras doctor`"):
        doctor.report(run_config("digits"), tmp_path)


def test_unsupported_versions_and_environments_are_named(monkeypatch):
    monkeypatch.setattr(doctor.tf, "__version__", "2.15.1")
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 2))
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    problems = [f"{each.topic}: {each.text}" for each in doctor._libraries() if each.is_problem]
    assert problems == [
        "python: only 3.11 to 3.13 are tested.",
        "tensorflow: 2.15.1 is too old: install 2.21 or newer.",
        "keras: TF_USE_LEGACY_KERAS makes tf.keras another Keras: unset it.",
    ]
