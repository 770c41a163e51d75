"""A function that runs in a process of its own returns, fails and is stopped as if it ran here."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from sit_keras.training.guards import Stopped
from sit_keras.workflows.own_process import in_own_process

ROOT = pathlib.Path(__file__).parents[2]


def test_another_process_returns_the_result():
    assert in_own_process(os.getpid) != os.getpid()
    assert in_own_process(divmod, 7, 2) == (3, 1)


def test_an_exception_is_raised_here():
    with pytest.raises(ValueError, match="invalid literal"):
        in_own_process(int, "x")


def test_a_process_that_ends_without_a_result_is_an_error_in_a_sentence():
    with pytest.raises(ChildProcessError, match="ended without a result"):
        in_own_process(os._exit, 1)


def test_sigterm_is_passed_on_and_this_process_lives():
    before = signal.getsignal(signal.SIGTERM)
    begin = time.monotonic()
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped, match="Stopped by SIGTERM. The same command goes on."):
        in_own_process(time.sleep, 60)
    assert time.monotonic() - begin < 30
    assert signal.getsignal(signal.SIGTERM) is before


def save_and_wait(folder):
    """Stands for a training, which saves its state when it is told to stop."""

    def save(number, frame):
        (folder / "saved").touch()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, save)
    (folder / "begun").touch()
    time.sleep(60)


def test_when_this_process_is_killed_the_other_one_saves_its_state_and_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib\n"
        "from tests.workflows.test_own_process import save_and_wait\n"
        "from sit_keras.workflows.own_process import in_own_process\n"
        "if __name__ == '__main__':\n"
        f"    in_own_process(save_and_wait, pathlib.Path({str(tmp_path)!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE)
    while not (tmp_path / "begun").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.communicate(timeout=30)  # until no process has its output open any more
    assert (tmp_path / "saved").exists()
