"""Imports point one way: config, the keras-only core, TensorFlow modules, commands."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "sit_keras"
STDLIB_ONLY = {
    "_version", "config", "config_json", "finetune_config", "recipes", "execution", "memory",
    "slurm",
}  # fmt: skip
CORE = {
    "layers", "backbone", "heads", "losses", "weighting", "augment", "rand_augment", "draws",
    "attention", "pretext_views", "optimization", "precision",
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path, at_top=False):
    """Full names of the modules that a file imports, anywhere or outside of functions."""
    tree = ast.parse(path.read_text())
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(path):
    return {name.split(".")[0] for name in imported(path)}


def own(path):
    return {name.split(".")[1] for name in imported(path) if name.startswith("sit_keras.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers_of_the_package(path):
    third_party = roots(path) & {
        "keras", "numpy", "tensorflow", "tensorflow_datasets", "sklearn", "matplotlib", "absl",
    }  # fmt: skip
    if path.parent == PACKAGE and path.stem in STDLIB_ONLY:
        assert not third_party
        assert own(path) <= STDLIB_ONLY
    if path.parent == PACKAGE and path.stem in CORE:
        assert third_party <= {"keras"}
        assert own(path) <= CORE | STDLIB_ONLY
    if path.parent.name == "data":
        assert not own(path) & {"pretrain", "run", "callbacks", "guards", "evaluation"}
    assert "flags" not in {name.split(".")[-1] for name in imported(path)}
    # PyTorch and safetensors are optional: one module knows them, and none of its functions needs
    # them before it is called.
    optional = roots(path) & {"torch", "safetensors", "jax"}
    assert path.stem == "torch_files" or not optional
    assert not {name.split(".")[0] for name in imported(path, at_top=True)} & optional


def test_commands_are_thin():
    for command in ROOT.glob("*.py"):
        assert len(command.read_text().splitlines()) < 150, command
