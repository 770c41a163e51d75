"""A function that runs in a process of its own returns, fails and is stopped as if it ran here."""

import os
import signal
import threading
import time

import pytest

from sit_keras.workflows.own_process import in_own_process


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
    with pytest.raises(ChildProcessError):
        in_own_process(time.sleep, 60)
    assert time.monotonic() - begin < 30
    assert signal.getsignal(signal.SIGTERM) is before
