"""`--help` answers at once, without a library and without a line of noise."""

import os
import shlex
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from sit_keras.cli.help import command_help
from sit_keras.cli.main import VERBS, command

SCRIPTS = ("train.py", "evaluate.py", "export.py", "tune.py")
PROGRAMS = [["-m", "sit_keras"], *(["-m", "sit_keras", verb] for verb in VERBS)]
PROGRAMS += [[script] for script in SCRIPTS]
HEAVY = ("tensorflow", "keras", "numpy", "sklearn", "matplotlib", "PIL")


def python(*arguments, **variables):
    environment = {**os.environ, **variables}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_help_answers_in_half_a_second(program):
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        result = python(*program, "--help")
        seconds.append(time.perf_counter() - begin)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")
    assert min(seconds) < 0.5, seconds


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_help_imports_no_library(program):
    result = python("-X", "importtime", *program, "--help")
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "absl.flags" in imported  # the list is what it is taken for
    assert not imported & set(HEAVY)


def test_the_package_itself_imports_no_library():
    code = f"import sys, sit_keras; print(sorted(set({HEAVY}) & set(sys.modules)))"
    assert python("-c", code).stdout.strip() == "[]"


def test_the_overview_has_every_command():
    lines = python("-m", "sit_keras").stdout.splitlines()
    for verb in VERBS:
        (line,) = [line for line in lines if line.startswith(f"  {verb} ")]
        assert command(verb).sentence in line


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_command_shows_every_flag_and_its_examples(verb):
    text = command_help(command(verb), f"sit-keras {verb}")
    assert command(verb).sentence in " ".join(text.split())
    for name in command(verb).flags("").names():
        assert f"--{name}" in text or f"--[no]{name}" in text
    assert f"  sit-keras {verb} " in text.split("Examples:")[1]
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_command_can_be_typed(verb):
    for typed, meaning in command(verb).examples:
        command(verb).parse(shlex.split(typed))
        assert meaning


def test_the_help_of_a_script_names_the_script():
    text = python("train.py", "--help").stdout
    assert "python train.py --dataset=stl10" in text and "sit-keras train" not in text
