"""What is published works where there is no checkout: the wheel, and that made from the sdist."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT

import sit_keras
from sit_keras.cli.main import VERBS

pytestmark = pytest.mark.slow
PRESET = "sit_cifar10_cpu"
EMBED = f"""
import sys, numpy as np, sit_keras
images = np.load(sys.argv[1])
tokens = sit_keras.SiTBackbone.from_preset({PRESET!r}).predict(images, verbose=0)
np.savez(sys.argv[2], **tokens)
print(sit_keras.__file__)
"""


def contents(wheel):
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}


def built(source, *options):
    """Builds in the present environment, which has what is needed, so nothing is downloaded."""
    command = [sys.executable, "-m", "build", "--no-isolation", *options, str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Builds an sdist, a wheel from it, and in `direct` a wheel from the files themselves."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sit_keras", source / "sit_keras", ignore=ignored)
    shutil.copytree(ROOT / "tests", source / "tests", ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    built(source, "--outdir", str(folder))
    built(source, "--wheel", "--outdir", str(folder / "direct"))
    return folder


@pytest.fixture(scope="module")
def installed(dist):
    """Installs the wheel beside the packages that it needs, in a folder of its own."""
    (wheel,) = dist.glob("*.whl")
    target = dist / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


@pytest.fixture
def run(installed, tmp_path):
    """Runs a program with that package, in an empty folder."""

    def run(*command):
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
        )
        assert result.returncode == 0, f"{command}: {result.stderr[-2000:]}"
        return result.stdout

    return run


def test_the_wheel_has_every_file_of_the_package_and_no_other(dist):
    (wheel,) = dist.glob("*.whl")
    files = [path for path in (ROOT / "sit_keras").rglob("*") if path.is_file()]
    expected = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in files
        if "__pycache__" not in path.parts
    }
    assert contents(wheel) == expected


def test_the_wheel_made_from_the_sdist_is_that_made_from_the_files(dist):
    (from_sdist,), (direct,) = dist.glob("*.whl"), (dist / "direct").glob("*.whl")
    assert contents(from_sdist) == contents(direct)


def test_every_command_explains_itself(run, installed):
    program = str(installed / "bin" / "sit-keras")
    listed = run(sys.executable, program, "--help")
    for verb in VERBS:
        assert verb in listed
        assert f"sit-keras {verb}" in run(sys.executable, program, verb, "--help")


def test_a_run_on_the_digits_is_trained_exported_and_evaluated(run, installed, tmp_path):
    program = (sys.executable, str(installed / "bin" / "sit-keras"))
    run(*program, "train", "--epochs=1", "--steps_per_epoch=2")
    assert (tmp_path / "exports" / "digits-digits-seed0" / "1" / "saved_model.pb").exists()
    shown = run(*program, "evaluate", "--run=sit_digits", "--dataset=digits", "--protocol=knn")
    assert "nearest" in shown or "neighbours" in shown


def test_a_shipped_encoder_embeds_images_as_that_of_the_checkout_does(run, installed, tmp_path):
    encoder = sit_keras.SiTBackbone.from_preset(PRESET)
    images = np.random.default_rng(0).normal(size=(10, *encoder.image_shape)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    place = run(sys.executable, "-c", EMBED, "images.npy", "tokens.npz").strip()
    assert pathlib.Path(place).is_relative_to(installed)
    assert not pathlib.Path(sit_keras.__file__).is_relative_to(installed)
    expected = encoder.predict(images, verbose=0)
    with np.load(tmp_path / "tokens.npz") as tokens:
        assert sorted(tokens) == sorted(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(tokens[name], values, rtol=0, atol=1e-5)
