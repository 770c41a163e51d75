"""The plugin of the tests' time: a test that hangs fails, and one that is not started does not."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

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
    passed, skipped = map(int, re.search(r"(\d+) passed, (\d+) skipped in", result.stdout).groups())
    assert passed + skipped == 16
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


def _runs(process):
    """Whether a process is there, and not only waits for its end to be noticed."""
    try:
        return (
            pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False
