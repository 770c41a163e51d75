"""How the program ends: with one sentence where something is wrong, and without noise."""

import os
import re
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from sit_keras._version import VERSION
from sit_keras.cli import main
from sit_keras.cli.main import VERBS


def typed(*arguments, code=None, **variables):
    """Runs the program, or Python code, as a user would: with no word about TensorFlow's log."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    program = ["-m", "sit_keras"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_installed_program_is_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["sit-keras"].split(":")
    assert module == main.__name__ and getattr(main, function) is main.main
    result = typed("--version")
    assert (result.stdout, result.stderr) == (f"sit-keras {VERSION}\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "sit-keras: Unknown command trian: did you mean train? sit-keras --help lists"),
        (["train", "--epoch=5"], "sit-keras train: Unknown flag --epoch: did you mean --epochs? "),
        (["train", "--preset=huge"], "sit-keras train: Unknown preset 'huge': choose one of"),
        (["orient", "photos"], "sit-keras orient: --model is missing"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_what_is_wrong_is_one_sentence(arguments, sentence):
    result = typed(*arguments)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(sentence) and result.stderr.count("\n") == 1


# Calls of encoders, runs and models that are not there.
NOWHERE = {
    "train": ["--dataset=mnist"],
    "doctor": ["--dataset=mnist"],
    "evaluate": ["--run=nowhere"],
    "tune": ["--dataset=mnist"],
    "report": ["nowhere"],
    "compare": ["nowhere"],
    "export": ["--run=nowhere"],
    "verify": ["nowhere"],
    "client": ["nowhere.png", "--grpc"],
    "orient": ["nowhere", "--model=nowhere"],
    "outliers": ["nowhere", "--model=nowhere"],
    "embed": ["nowhere", "--encoder=nowhere", "--output=out.npz"],
    "search": ["nowhere.npz", "nowhere.png"],
    "duplicates": ["nowhere.npz"],
    "convert": ["nowhere.pth", "--output=out"],
    "pack": ["folder:nowhere", "--output=out"],
    "benchmark-recipes": ["--output=out"],
}


class Started(Exception):
    pass


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_starts_tensorflow_before_anything_else_does(verb, monkeypatch):
    """Whoever imports it first decides what it prints."""

    def start():
        raise Started

    module = verb.replace("-", "_")
    monkeypatch.setattr(f"sit_keras.cli.{module}.start_tensorflow", start)
    loaded = set(sys.modules)
    with pytest.raises(Started):
        main.call(verb, NOWHERE[verb])
    new = {name for name in set(sys.modules) - loaded if name.startswith("sit_keras.")}
    assert all(name.split(".")[1] in ("cli", "config") for name in new)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "verify"])
def test_nothing_but_the_sentence_is_printed(verb):
    """None of TensorFlow's lines about processors, CUDA and logs."""
    result = typed(verb, *NOWHERE[verb])
    assert result.returncode == 1
    assert result.stderr.startswith(f"sit-keras {verb}: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_users_own_log_level_is_left_alone():
    result = typed("verify", "nowhere", TF_CPP_MIN_LOG_LEVEL="0")
    assert re.search(r"^I\d{4} ", result.stderr, re.MULTILINE)


RAISE = """
from sit_keras.cli import evaluate, main
{line}
def run(options):
    raise {error}("What happened.")
object.__setattr__(evaluate.COMMAND, "run", run)
main.main(["evaluate"])
"""


@pytest.mark.parametrize(
    ("error", "training"),
    [("ValueError", ""), ("OSError", ""), ("ArithmeticError", ""),
     pytest.param("NonFiniteLoss", "guards", marks=pytest.mark.slow),
     pytest.param("Stopped", "guards", marks=pytest.mark.slow),
     pytest.param("WorkerLost", "strategy", marks=pytest.mark.slow)],
)  # fmt: skip
def test_errors_with_a_sentence_of_their_own_have_no_traceback(error, training):
    line = training and f"from sit_keras.training.{training} import {error}"
    result = typed(code=RAISE.format(error=error, line=line))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "sit-keras evaluate: What happened."
    assert "Traceback" not in result.stderr


def test_a_mistake_in_the_program_keeps_its_traceback():
    result = typed(code=RAISE.format(error="AttributeError", line=""))
    assert result.returncode == 1 and "Traceback" in result.stderr


def test_ctrl_c_is_one_sentence():
    result = typed(code=RAISE.format(error="KeyboardInterrupt", line=""))
    assert result.returncode == 1
    assert result.stderr == (
        "sit-keras evaluate: Stopped by Ctrl-C. What is finished is kept, and the same command "
        "continues.\n"
    )


def test_nobody_reads_on():
    """As in `sit-keras train --help | head -1`."""
    command = f"{sys.executable} -m sit_keras train --help | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.startswith("Usage: ") and result.stderr == ""


START = """
import os, signal, sys
from sit_keras.cli import startup
class Loud:
    def list_physical_devices(self):
        pass
def loud(name):
    os.write(2, b"I0000 00:00:17.5  1 port.cc:153] oneDNN custom operations are on.\\n")
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written\\n")
    os.write(2, b"E0000 00:00:17.5  1 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA "
                b"error: Failed call to cuInit: UNKNOWN ERROR (303)\\n")
    os.write(2, b"W0000 00:00:17.5  1 gpu_device.cc:2] Cannot dlopen some GPU libraries.\\n")
    os.write(2, b"F0000 00:00:17.5  1 cpu.cc:2] AVX is missing")
    {then}
    Loud.config = Loud()
    return Loud
startup.import_package = loud
startup.start_tensorflow()
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize("then", ["pass", "os.kill(os.getpid(), signal.SIGABRT)"])
def test_warnings_and_the_last_words_of_a_crash_are_printed(then):
    result = typed(code=START.format(then=then))
    kept = ["W0000 00:00:17.5  1 gpu_device.cc:2] Cannot dlopen some GPU libraries."]
    kept += ["F0000 00:00:17.5  1 cpu.cc:2] AVX is missing" + "after" * (then == "pass")]
    if then == "pass":
        assert result.stderr.splitlines() == kept and result.returncode == 0
    else:
        assert result.returncode == -signal.SIGABRT
        assert result.stderr.splitlines() == kept


def test_packages_that_no_command_needs_are_not_imported_by_tensorflow():
    """TensorFlow imports JAX where it is installed, and Keras scikit-learn; ours come later."""
    code = (
        "import sys\n"
        "from sit_keras.cli import startup\n"
        "startup.start_tensorflow()\n"
        "print([name for name in ('jax', 'sklearn', 'matplotlib.pyplot') if name in sys.modules])\n"
        "import sklearn, matplotlib.pyplot, scipy.sparse\n"
        "print(sklearn.__name__)\n"
    )
    assert typed(code=code).stdout == "[]\nsklearn\n"


def test_start_without_a_standard_error():
    code = "import os; os.close(2)\n" + START.format(then="pass").replace("os.write(2", "print(2")
    result = typed(code=code.replace('print("after", file=sys.stderr)', 'print("after")'))
    assert result.returncode == 0 and result.stdout.endswith("after\n")


def test_a_file_name_that_is_no_text_is_printed(tmp_path):
    """As of an old disk; the names of the images are what `orient` and `client` print."""
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(file, "PNG")
    code = (
        "import pathlib, sys\n"
        "from sit_keras.cli import main, verify\n"
        "def run(options):\n"
        "    print(next(pathlib.Path(options.version).iterdir()).name)\n"
        "object.__setattr__(verify.COMMAND, 'run', run)\n"
        "main.main(['verify', sys.argv[1]])\n"
    )
    result = typed(tmp_path, code=code, PYTHONIOENCODING="utf-8", PYTHONUTF8="0")
    assert (result.returncode, result.stdout) == (0, "caf\\udce9.png\n"), result.stderr
