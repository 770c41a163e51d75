"""Imports point one way: each room of the package may import those that lie below it."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "sit_keras"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)

# Each room: the rooms that it may import. Rooms of one line do not know each other.
BELOW = {"config": set()}
BELOW["augment"] = {"config"}
BELOW["models"] = {"config", "augment"}
BELOW["data"] = BELOW["plots"] = {"config", "augment", "models"}
BELOW["runs"] = BELOW["data"] | {"data", "plots"}
BELOW["training"] = BELOW["serving"] = BELOW["conversion"] = BELOW["runs"] | {"runs"}
BELOW["evaluation"] = BELOW["training"] | {"training"}
BELOW["workflows"] = BELOW["evaluation"] | {"evaluation", "serving", "conversion"}
BELOW["cli"] = BELOW["workflows"] | {"workflows"}

# What a room may import from outside, besides the standard library.
THIRD_PARTY = {"config": set(), "augment": {"keras"}, "models": {"keras", "h5py"}}
# Packages that one may do without: only a function that needs one imports it.
OPTIONAL = {
    "absl": {"cli", "data", "training", "runs", "serving", "evaluation", "workflows", "conversion"},
    "grpc": {"serving"},
    "huggingface_hub": {"models"},
    "ai_edge_litert": {"serving"},
    "nncf": {"serving"},
    "onnx": {"serving"},
    "onnxruntime": {"serving"},
    "openvino": {"serving"},
    "pi_heif": {"data"},
    "pyarrow": {"evaluation"},
    "keras_tuner": {"workflows"},
    "safetensors": {"conversion"},
    "tensorflow_datasets": {"data"},
    "tensorflow_serving": {"serving"},
    "tf2onnx": {"serving"},
    "torch": {"conversion"},
}


def imported(path, at_top=False):
    """The full names of what a file imports, anywhere or outside of functions.

    What is imported for a reader of the types alone, under TYPE_CHECKING, does not count.
    """
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body.clear()
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms(path):
    """The rooms that a file imports, without its own."""
    names = {name.split(".")[1] for name in imported(path) if name.startswith("sit_keras.")}
    return names & set(BELOW) - {path.parent.name}


def test_every_folder_of_the_package_is_a_room_and_says_what_lives_there():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(BELOW)
    for folder in folders:
        tree = ast.parse((PACKAGE / folder / "__init__.py").read_text())
        assert ast.get_docstring(tree) and len(tree.body) == 1, folder


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_rooms_below_its_own(path):
    assert rooms(path) <= BELOW[path.parent.name]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_the_packages_that_its_room_may(path):
    room = path.parent.name
    outside = {name.split(".")[0] for name in imported(path)} - {"sit_keras"}
    known = {
        "keras",
        "h5py",
        "numpy",
        "tensorflow",
        "sklearn",
        "matplotlib",
        "PIL",
        "filelock",
        *OPTIONAL,
    }
    if room in THIRD_PARTY:
        assert outside & known <= THIRD_PARTY[room] | (
            OPTIONAL.keys() if room == "models" else set()
        )
    for package in outside & set(OPTIONAL):
        assert room in OPTIONAL[package]
    if path.stem != "tiny_imagenet":  # a builder of that package, which a function imports
        at_top = {name.split(".")[0] for name in imported(path, at_top=True)}
        assert not at_top & (set(OPTIONAL) - {"absl"})


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_flags_never_leave_the_commands(path):
    names = {name.split(".")[-1] for name in imported(path)}
    assert path.parent.name == "cli" or not names & {"flags", "FLAGS"}


def arrows():
    """Which module imports which, by their names in the package."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    return {
        name: {
            module
            for full in imported(path)
            for module in (full, full.rpartition(".")[0])
            if module in modules and module != name
        }
        for name, path in modules.items()
    }


def test_no_circle_of_imports():
    graph = arrows()
    reachable = {name: set(graph[name]) for name in graph}
    for _ in graph:
        for name in graph:
            reachable[name] |= set().union(*(reachable[other] for other in reachable[name]))
    assert [name for name in graph if name in reachable[name]] == []


def test_no_file_has_more_than_300_lines():
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "examples").rglob("*.py"), *ROOT.glob("*.py")]
    long = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in files}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}


def test_commands_at_the_top_are_thin():
    for command in ROOT.glob("*.py"):
        assert len(command.read_text().splitlines()) < 40, command
