"""Nothing in the package runs what it reads, or another program, but for the places named here."""

import ast
import re

import pytest
from conftest import ROOT

# Where one of them stands, and why it may.
ALLOWED = {
    ("serving/export.py", "subprocess"): "verifies an export in a new Python process of this "
    "program, from a list of arguments without a shell",
    ("serving/by_rest.py", "urllib"): "sends images to the server that the user names",
    ("serving/by_rest.py", "http"): "names the errors of that",
    ("serving/address.py", "urllib"): "takes the address of that server apart",
    ("config/extras.py", "importlib"): "imports optional packages, by names that stand in the code",
    ("cli/main.py", "importlib"): "imports the command of a verb, one of a fixed list",
    ("workflows/doctor.py", "importlib"): "looks whether packages are installed",
    ("__init__.py", "importlib"): "imports a public name when it is first used, of a fixed list",
    ("training/memory.py", "ctypes"): "limits the arenas of the C library's allocator",
    ("conversion/torch_files.py", "torch.load"): "with weights_only=True, in PyTorch from 2.10",
    ("conversion/torch_files.py", "torch.save"): "writes arrays",
    ("models/classifier.py", "deserialize_keras_object"): "is asked by Keras, when a user calls "
    "keras.saving.load_model, which has its safe mode",
    ("training/pretrainer.py", "deserialize_keras_object"): "as above",
    ("models/recompiling.py", "deserialize_keras_object"): "as above",
    ("data/manifest.py", "importlib"): "looks which versions of packages are installed",
}  # fmt: skip
MODULES = {
    "subprocess", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml",
    "xml", "lxml", "ctypes", "cffi", "importlib", "runpy", "code", "pty", "urllib", "requests",
    "http", "ftplib", "telnetlib", "imp",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "system", "popen", "spawnv", "execv", "mktemp",
    "load_model", "deserialize_keras_object", "enable_unsafe_deserialization", "unpackb",
}  # fmt: skip
# Of one module only: other objects have methods of these names.
OWN = {"compile", "eval", "exec"}
FILES = [path for place in ("sit_keras", "examples") for path in (ROOT / place).rglob("*.py")]


def used(text):
    """What a module's text uses of the lists above."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[0] for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            yield from _called(node)


def _called(node):
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    if last in CALLS and (last not in OWN or name == last):
        yield last
    if name in ("torch.load", "torch.save"):
        yield name
    for keyword in node.keywords:
        value = ast.unparse(keyword.value)
        unsafe = {"allow_pickle": "True", "shell": "True", "safe_mode": "False"}
        if unsafe.get(keyword.arg) == value or (keyword.arg, value) == ("weights_only", "False"):
            yield f"{keyword.arg}={value}"


def place(path):
    return str(path.relative_to(ROOT / "sit_keras" if "sit_keras" in path.parts else ROOT))


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_module_runs_nothing_that_is_not_accounted_for(path):
    found = {(place(path), name) for name in used(path.read_text())}
    assert found - set(ALLOWED) == set()


def test_every_exception_is_still_needed():
    found = {(place(path), name) for path in FILES for name in used(path.read_text())}
    assert set(ALLOWED) - found - {("conversion/torch_files.py", "torch.save")} == set()


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from subprocess import run", "eval('1')", "os.system('x')", "exec(a)",
        "np.load(path, allow_pickle=True)", "run(a, shell=True)", "keras.saving.load_model(path)",
        "keras.models.load_model(path, safe_mode=False)", "torch.load(p, weights_only=False)",
        "import urllib.request", "tempfile.mktemp()", "import xml.etree.ElementTree as E",
    ],
)  # fmt: skip
def test_the_scan_sees(line):
    assert list(used(line))


def test_the_scan_leaves_methods_of_the_same_name():
    assert list(used("model.compile()\nre.compile('a')\nmodel.eval()")) == []


def test_pytorch_is_read_for_weights_only():
    text = (ROOT / "sit_keras" / "conversion" / "torch_files.py").read_text()
    assert len(re.findall(r"torch\.load\(", text)) == text.count("weights_only=True") == 1
