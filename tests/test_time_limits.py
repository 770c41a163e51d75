"""The plugin of the tests' time: a test that hangs fails, and one that is not started does not."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

XDIST = ["-n", "2", "--dist=worksteal"]

SLOW = """
import time
import pytest

@pytest.mark.parametrize("i", range(16))
def test_that_takes_time(i):
    time.sleep(0.6)
"""

# Each test waits for processes that do not end; the names of theirs are written down.
HANGING = """
import pathlib, subprocess, sys, time
import pytest

CHILD = [sys.executable, "-c", '''
import os, pathlib, time
pathlib.Path(f"child-{os.getpid()}").touch()
time.sleep(600)
''']

def test_that_runs_a_process():
    subprocess.run(CHILD, capture_output=True)

def test_that_leaves_processes_behind():
    children = [subprocess.Popen(CHILD, stdout=subprocess.PIPE) for _ in range(2)]
    children[0].communicate(timeout=300)

def test_whose_process_runs_another():
    subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.run({CHILD})"])

@pytest.fixture
def child():
    with subprocess.Popen(CHILD) as process:
        yield process

def test_whose_fixture_waits(child):
    pass

def test_that_ends():
    pass
"""


def run_pytest(folder, code, *arguments):
    (folder / "test_it.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "time_limits", "-p", "no:cacheprovider", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)},
    )


@pytest.mark.parametrize("processes", [[], XDIST])
def test_once_the_time_is_spent_no_test_is_started_and_none_fails(tmp_path, processes):
    result = run_pytest(tmp_path, SLOW, *processes, "--time_budget=3", "-ra")
    assert result.returncode == 0, result.stdout
    passed, skipped = (
        sum(map(int, re.findall(rf"(\d+) {outcome}", result.stdout.splitlines()[-1])))
        for outcome in ("passed", "skipped")
    )
    assert passed + skipped == 16 and skipped > 0
    assert f"{skipped} tests not started: the time budget of 3 s was spent." in result.stdout
    named = re.findall(r"^test_it.py::test_that_takes_time\[\d+\]$", result.stdout, re.MULTILINE)
    assert len(set(named)) == skipped


def test_without_a_budget_all_tests_run(tmp_path):
    result = run_pytest(tmp_path, "def test_it(): pass")
    assert result.returncode == 0 and "1 passed" in result.stdout
    assert "not started" not in result.stdout


def test_a_test_that_fails_within_the_budget_is_a_failure(tmp_path):
    result = run_pytest(tmp_path, "def test_it(): assert False", "--time_budget=60")
    assert result.returncode == 1 and "1 failed" in result.stdout


def test_a_test_that_hangs_fails_and_its_processes_end(tmp_path):
    result = run_pytest(tmp_path, HANGING, *XDIST, "--timeout=2", "--timeout-method=signal")
    assert result.returncode == 1, result.stdout
    assert "3 failed, 2 passed, 1 error in" in result.stdout
    assert len(re.findall(r"^(?:FAILED|ERROR) .* Timeout", result.stdout, re.MULTILINE)) == 4
    children = [path.name.removeprefix("child-") for path in tmp_path.glob("child-*")]
    assert len(children) == 5
    assert not [child for child in children if _runs(child)]


# What waits in Python, and what is never told that its time is over.
WAITING = """
import signal, time
import pytest

pytestmark = {marks}

def test_that_waits():
    time.sleep(600)

def test_that_no_signal_reaches():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(600)

def test_that_ends():
    pass
"""
SUITES = {
    "test-fast": "[]",
    "test-slow": "pytest.mark.slow",
    "test-endurance": "pytest.mark.endurance",
}
slow = pytest.mark.slow


def make(folder, target, code, *variables):
    """Runs a suite of the Makefile on tests of its own."""
    (folder / "conftest.py").write_text('pytest_plugins = ["time_limits"]')
    (folder / "test_it.py").write_text(code)
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["make", "-f", ROOT / "Makefile", target, *variables],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "tests")},
    )


@pytest.mark.parametrize(
    "target",
    ["test-fast", *(pytest.param(each, marks=slow) for each in ("test-slow", "test-endurance"))],
)
def test_a_test_that_hangs_fails_in_every_suite(tmp_path, target):
    code = WAITING.format(marks=SUITES[target])
    result = make(tmp_path, target, code, "TEST_TIMEOUT=2", "GRACE=3")
    assert result.returncode != 0 and "2 failed, 1 passed" in result.stdout, result.stdout
    assert re.search("FAILED .*::test_that_waits - .*Timeout", result.stdout)
    assert re.search("crashed while running .*::test_that_no_signal_reaches", result.stdout)


@pytest.mark.parametrize("target", [pytest.param("test-slow", marks=slow), "test-endurance"])
def test_a_suite_whose_time_is_spent_names_what_it_leaves_out(tmp_path, target):
    code = WAITING.format(marks=SUITES[target])
    result = make(tmp_path, target, code, "TIME_BUDGET=0")
    assert result.returncode == 0 and "3 skipped" in result.stdout, result.stdout
    for name in ("test_that_waits", "test_that_no_signal_reaches", "test_that_ends"):
        assert f"\ntest_it.py::{name}\n" in result.stdout


def test_every_test_is_in_one_suite(tmp_path):
    marks = ["slow", "endurance", "usefixtures()"]
    tests = [
        "".join(f"@pytest.mark.{mark}\n" for mark in chosen) + f"def test_{number}(): pass\n"
        for number, chosen in enumerate([[], *([each] for each in marks), marks])
    ]
    code = "import pytest\n" + "".join(tests)
    plain = f"PYTEST={sys.executable} -m pytest -rp -p no:cacheprovider"
    passed = [
        re.findall(r"^PASSED test_it.py::test_(\d)", make(tmp_path, each, code, plain).stdout, re.M)
        for each in SUITES
    ]
    assert passed == [["0", "3"], ["1"], ["2", "4"]]


def _runs(process):
    """Whether a process is there, and not only waits for its end to be noticed."""
    try:
        return (
            pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False
