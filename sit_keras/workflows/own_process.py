"""Work in a process of its own, which gives back all of its memory.

TensorFlow keeps what it has compiled, and constants such as the images of a data set, until its
process ends. One training after the other so takes hundreds of megabytes each.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import os
import signal
import threading
import typing

from sit_keras.training.guards import Stopped


def in_own_process(function: typing.Callable, *arguments: typing.Any) -> typing.Any:
    """Calls a function in a new process, which stops and saves its state when this one is told to.

    It does so as well when this process is killed.

    Args:
        function: a function of a module.
        *arguments: what can be pickled, as the result must be.

    Returns:
        What the function returns; its exceptions are raised here.

    Raises:
        Stopped: if this process was told to stop and the other one ended without either.
        ChildProcessError: if the other one ended so by itself.
    """
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(1, context, initializer=_stop_with_parent)
    with pool, _passing_on_sigterm() as received:
        try:
            return pool.submit(_call, function, *arguments).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            if received:
                raise Stopped(f"Stopped by {received[0]}. The same command goes on.") from error
            raise ChildProcessError(
                "Its process ended without a result, perhaps because the memory was used up."
            ) from error


def _stop_with_parent():
    """Lets this process get SIGTERM as soon as the one that started it is gone."""

    def wait():
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _call(function, *arguments):
    """Calls the function, and ends the process where nobody is left to be told what it returned."""
    try:
        return function(*arguments)
    finally:
        if not multiprocessing.parent_process().is_alive():
            os._exit(1)


@contextlib.contextmanager
def _passing_on_sigterm():
    """Sends SIGTERM on to the children. (Ctrl-C reaches them from the terminal.)

    Yields a list of the names of the signals that were received, which grows.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may listen
        return

    def pass_on(number, frame):
        received.append(signal.Signals(number).name)
        for child in multiprocessing.active_children():
            os.kill(child.pid, number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
