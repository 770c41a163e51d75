"""Imports TensorFlow without the lines that it prints on every machine."""

import contextlib
import os
import re
import signal
import sys
import typing

from sit_keras.config.extras import import_package

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Imported by TensorFlow (TFLite's converter of JAX models) and by Keras (wrappers for scikit-learn,
# plots) where they are installed, which no command needs: a third of the time of the import.
UNNEEDED = ("jax", "sklearn", "matplotlib.pyplot", "scipy.sparse")
# TensorFlow's libraries write some lines while they are loaded, before they have read the level
# from the environment, and an error on every machine without an NVIDIA driver.
CHATTER = re.compile(
    rb"I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I "  # information
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions: "
    rb"|.*failed call to cuInit: .*UNKNOWN ERROR \(303\)"
    rb"|.*Unable to register cu\w+ factory: .* has already been registered"
    rb"|.*computation placer already registered"
)


def start_tensorflow() -> None:
    """Imports TensorFlow and finds its devices; only warnings and errors are printed.

    `TF_CPP_MIN_LOG_LEVEL` is set to 1 unless the user has set it; at 0 everything is printed.

    Raises:
        MissingPackage: if TensorFlow is not installed.
    """
    if "tensorflow" in sys.modules:
        return
    everything = os.environ.setdefault(LEVEL, "1") == "0"
    with contextlib.nullcontext() if everything else _without_chatter(), _hidden(UNNEEDED):
        import_package("tensorflow").config.list_physical_devices()


@contextlib.contextmanager
def _hidden(modules: typing.Sequence[str]) -> typing.Iterator[None]:
    """Makes modules that are not imported yet look as if they were not installed."""
    hidden: dict[str, typing.Any] = dict.fromkeys(
        name for name in modules if name not in sys.modules
    )
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _without_chatter() -> typing.Iterator[None]:
    """Keeps `CHATTER` off the standard error, which libraries write to by its number.

    Another process reads the lines, so that the last words of a crash are printed, too.
    """
    try:
        printed = os.dup(2)
    except OSError:  # it is closed
        printed = None
    if printed is None or not hasattr(os, "fork"):
        yield
        return
    sys.stderr.flush()
    reading, writing = os.pipe()
    reader = os.fork()
    if not reader:
        os.close(writing)
        _pass_on(reading, printed)
    os.close(reading)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(printed, 2)
        os.close(printed)
        os.waitpid(reader, 0)


def _pass_on(reading: int, printed: int) -> typing.NoReturn:
    """Prints lines until there are no more, and ends the process."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when the other process does
        with open(reading, "rb") as lines:
            for line in lines:
                if not CHATTER.match(line):
                    os.write(printed, line)
    finally:
        os._exit(0)
