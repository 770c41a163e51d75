"""What users import has types: a script is checked by mypy as it would be after an install."""

import inspect
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import sit_keras

RIGHT = """
import pathlib

import numpy as np

import sit_keras

images = np.zeros((8, 40, 50, 3), "uint8")
backbone = sit_keras.SiTBackbone(
    image_shape=(32, 32, 3), patch_size=8, hidden_dim=48, num_layers=2, num_heads=3, mlp_dim=96
)
model = sit_keras.SiTPretrainer(backbone, views=sit_keras.ViewConfig(crop_area=(0.5, 1.0)))
model.compile(jit_compile=False)
model.fit(images, batch_size=4)
backbone.save_to_preset(pathlib.Path("encoder"))
again: sit_keras.SiTBackbone = sit_keras.SiTBackbone.from_preset("encoder")
height: int = again.image_shape[0]
mean: tuple[float, ...] = again.preprocessing.mean

config: sit_keras.RunConfig = sit_keras.run_config("digits", epochs=3)
results = sit_keras.pretrain(config, pathlib.Path("run"), data_dir=pathlib.Path("data"))
accuracy: float = results["linear"]
scores = sit_keras.evaluate("run", protocol=("linear",), k=[1, 5])
data: sit_keras.ImageSet = sit_keras.load_source("digits").train
sit_keras.export("run", "exports/digits", format=("savedmodel",))
sit_keras.search("index", ["a.jpg", pathlib.Path("b.jpg")])
"""

WRONG = """
import sit_keras

sit_keras.SiTBackbone(image_shape=(32, 32), patch_size=8)  # error
sit_keras.SiTBackbone(patch=8)  # error
sit_keras.RunConfig(epochs="3")  # error
sit_keras.pretrain("run")  # error
sit_keras.evaluate("run", image_size="32")  # error
height: str = sit_keras.SiTBackbone.from_preset("encoder").image_shape[0]  # error
sit_keras.pretrane  # error
sit_keras.SiTBackbone.from_preset("encoder").preprocessing.means  # error
"""


def complaints(folder, **scripts):
    """What mypy says about scripts in an empty folder: (file, line) pairs, and the text."""
    for name, text in scripts.items():
        (folder / f"{name}.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *(f"{name}.py" for name in scripts)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode in (0, 1), result.stderr
    found = re.findall(r"^(\w+)\.py:(\d+): error", result.stdout, re.MULTILINE)
    return sorted({(name, int(line)) for name, line in found}), result.stdout


@pytest.mark.slow
def test_a_right_script_has_no_complaint_and_each_wrong_line_has_one(tmp_path):
    pytest.importorskip("mypy")
    marked = [i for i, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# error")]
    found, text = complaints(tmp_path, right=RIGHT, wrong=WRONG)
    assert found == [("wrong", line) for line in marked], text


def own_methods(cls):
    """The public methods that a class adds to its base, and those that a user calls by name."""
    called = {"__init__", "__call__", "compile", "get_config", "from_config"}
    others = [base for base in cls.__mro__ if not base.__module__.startswith("sit_keras")]
    for name, method in vars(cls).items():
        hook = any(hasattr(base, name) for base in others) and name not in called
        if hook or (name.startswith("_") and name not in called):
            continue
        method = getattr(method, "__func__", getattr(method, "fget", method))
        if inspect.isfunction(method):
            yield method


def public_functions():
    for name in sit_keras.__all__:
        thing = getattr(sit_keras, name)
        methods = own_methods(thing) if inspect.isclass(thing) else [thing]
        yield from (pytest.param(each, id=f"{name}.{each.__name__}") for each in methods)


@pytest.mark.parametrize("function", public_functions())
def test_every_parameter_and_result_of_the_public_names_has_a_type(function):
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls") and parameter.kind is not parameter.VAR_KEYWORD:
            assert parameter.annotation is not parameter.empty, parameter.name
    if function.__name__ != "__init__":
        assert signature.return_annotation is not signature.empty


def test_a_commit_is_checked_as_continuous_integration_checks_it():
    script = (ROOT / ".ci" / "run").read_text()
    before_tests = script.partition("\nmake lint\n")[2].partition("\nmake docs\n")[0].split()
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks == ["make lint", "make types"]
    assert before_tests == ["make", "types"]


def test_the_programs_that_check_the_code_are_pinned():
    dev = (ROOT / "pyproject.toml").read_text()
    constraints = (ROOT / "constraints.txt").read_text()
    for name in ("ruff", "mypy"):
        (version,) = re.findall(rf'"{name}==([\d.]+)"', dev)
        assert f"\n{name}=={version}\n" in constraints
