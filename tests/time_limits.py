"""A plugin of pytest for the time of each test and of all together, also under pytest-xdist.

`--time_budget=SECONDS` starts no further test once the time is spent. Such tests are skipped and
named at the end, and they are no failure.

A test that runs out of its own time fails, by `--timeout` of pytest-timeout. This plugin then ends
the processes that the test has started, which would keep it waiting or outlive it.
"""

import contextlib
import os
import pathlib
import signal
import threading
import time

import pytest

BUDGET_END = pytest.StashKey[float | None]()
WATCH = pytest.StashKey["Watch"]()
NOT_STARTED = "not started: the time budget of {:g} s was spent"

# A test's processes are listed this many seconds before the end of its time, and killed so many
# after it. In between pytest-timeout raises its error, so that the report says what happened.
BEFORE, AFTER = 0.5, 2.0


def pytest_addoption(parser):
    parser.addoption(
        "--time_budget",
        type=float,
        metavar="SECONDS",
        help="Start no further test after this many seconds; those not run are skipped.",
    )


def pytest_configure(config):
    budget = config.getoption("time_budget")
    if hasattr(config, "workerinput"):  # a process of pytest-xdist: all end at the same moment
        config.stash[BUDGET_END] = config.workerinput["time_budget_end"]
    else:
        config.stash[BUDGET_END] = None if budget is None else time.time() + budget


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["time_budget_end"] = node.config.stash[BUDGET_END]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    end = item.config.stash[BUDGET_END]
    if end is not None and time.time() >= end:
        pytest.skip(NOT_STARTED.format(item.config.getoption("time_budget")))


def pytest_terminal_summary(terminalreporter, config):
    budget = config.getoption("time_budget")
    if budget is None:
        return
    reason = f"Skipped: {NOT_STARTED.format(budget)}"
    left = [
        report.nodeid
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple) and report.longrepr[2] == reason
    ]
    if left:
        terminalreporter.section("tests not started")
        for test in sorted(left):
            terminalreporter.line(test)
        terminalreporter.line(f"{len(left)} tests {reason.removeprefix('Skipped: ')}.")


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item, settings):
    """Prepares for the end of a test's time. Returns None: pytest-timeout sets its own timer."""
    item.stash[WATCH] = Watch(settings.timeout)
    item.stash[WATCH].start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    try:
        return (yield)
    finally:
        if WATCH in item.stash:
            item.stash[WATCH].finish()


class Watch(threading.Thread):
    """Ends the processes that a test has started, where it runs out of time.

    They are listed just before: where a process dies, those that it started are nobody's any more.
    """

    def __init__(self, seconds):
        super().__init__(daemon=True)
        self._end = time.monotonic() + seconds
        self._finished = threading.Event()
        self._processes = []

    def run(self):
        if self._finished.wait(self._end - BEFORE - time.monotonic()):
            return
        self._processes = descendants(os.getpid())
        if not self._finished.wait(self._end + AFTER - time.monotonic()):
            self._kill()

    def finish(self):
        """Is called after the test and its fixtures."""
        self._finished.set()
        self.join()
        if time.monotonic() >= self._end:
            self._kill()

    def _kill(self):
        for process in {*self._processes, *descendants(os.getpid())}:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(process, signal.SIGKILL)


def descendants(process):
    """The processes below one, where the system lists them in /proc."""
    children = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The second field, the name in brackets, may have spaces and brackets itself.
            parent = path.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended since
            continue
        children.setdefault(int(parent), []).append(int(path.parent.name))
    found = [process]
    for each in found:
        found += children.get(each, [])
    return found[1:]
