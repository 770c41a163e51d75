"""Progress: a line on a terminal, lines in a file, and what they say."""

import io
import re
import sys
import time

import pytest

from sit_keras.config import progress
from sit_keras.config.progress import LiveLine, Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock of the test, which starts at 0."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def shown_on(stream, monkeypatch, work):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.02)
    work()
    return stream.getvalue()


def test_the_speed_and_the_time_left_are_without_the_first_report(clock):
    work = Progress("features", 1000)
    assert work.line() == "features: 0 of 1,000 images (0%) | 0:00 so far"
    clock[0] = 60.0
    assert work.line() == "features: 0 of 1,000 images (0%) | 1:00 so far"
    work.advance(100)  # the first, which took a minute to compile
    clock[0] = 62.0
    work.advance(100)
    assert work.line() == "features: 200 of 1,000 images (20%) | 50.0 images/s | ETA 0:16"
    clock[0] = 72.0  # the next report is still out
    assert work.line().endswith("ETA 0:06")
    clock[0] = 99.0
    assert work.line().endswith("ETA 0:00")


def test_what_was_done_before_does_not_count_in_the_speed(clock):
    work = Progress("train", 1000)
    work.skip(800)
    for clock[0] in (1.0, 2.0, 3.0):
        work.advance(10)
    assert work.line() == "train: 830 of 1,000 images (83%) | 10.0 images/s | ETA 0:17"


def test_work_of_unknown_size_shows_its_time(clock):
    clock[0] = 5.0
    work = Progress("linear heads", unit="penalties tried")
    clock[0] = 50.0
    assert work.line() == "linear heads | 0:45 so far"
    work.advance(details="loss 1.0")
    assert work.line() == "linear heads: 1 penalties tried | 0:45 so far | loss 1.0"


@pytest.mark.parametrize(
    "seconds, text",
    [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3599.7, "1h00m"), (68704, "19h05m"),
     (360_000, "4d04h"), (356_400, "99h00m")],
)  # fmt: skip
def test_a_duration_has_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_has_one_line_that_is_written_over_and_cleared(monkeypatch):
    def work():
        with Progress("reading", 10) as reading:
            for _ in range(10):
                reading.advance()
                time.sleep(0.02)

    states = shown_on(Terminal(), monkeypatch, work).split("\r\x1b[K")
    assert len(states) > 3 and "\n" not in "".join(states)
    assert states[0] == "" and states[-1] == ""  # it is clear at the end
    assert all(state.startswith("reading: ") for state in states[1:-1])


def test_a_line_is_no_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")

    def work():
        with LiveLine(lambda: 50 * "x"):
            time.sleep(0.1)

    states = shown_on(Terminal(), monkeypatch, work).split("\r\x1b[K")
    assert {len(state) for state in states} == {0, 19}


def test_a_file_has_whole_lines_without_signs_for_terminals(monkeypatch):
    def work():
        with Progress("reading", 10) as reading:
            time.sleep(0.1)
            reading.advance()
            reading.say("One cannot be read.")

    lines = shown_on(io.StringIO(), monkeypatch, work).splitlines(keepends=True)
    assert len(lines) >= 2 and all(line.endswith("\n") for line in lines)
    assert "\r" not in "".join(lines) and "\x1b" not in "".join(lines)
    assert lines[-1] == "One cannot be read.\n"


def test_short_work_leaves_no_line_in_a_file(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("reading", 10) as reading:
        reading.advance(10)
    assert stream.getvalue() == ""
    assert progress.LOG_SECONDS == 30


def test_within_other_work_only_the_outer_one_is_shown(monkeypatch):
    def work():
        with Progress("embeddings", 2) as outer:
            for _ in range(2):
                with Progress("features", 64):
                    time.sleep(0.05)
                outer.advance()
        with Progress("features", 64):  # alone again
            time.sleep(0.05)

    shown = re.findall("embeddings|features", shown_on(Terminal(), monkeypatch, work))
    assert shown == sorted(shown) and set(shown) == {"embeddings", "features"}


@pytest.mark.parametrize("broken", [OSError("gone"), ValueError("closed"), KeyError("a loss")])
def test_a_line_that_cannot_be_shown_does_not_stop_the_work(monkeypatch, capsys, broken):
    def text():
        raise broken

    class Broken(Terminal):
        write = staticmethod(lambda text: (_ for _ in ()).throw(broken))

    stream = Broken() if not isinstance(broken, KeyError) else Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.01)
    with LiveLine(text if isinstance(broken, KeyError) else lambda: "x"):
        time.sleep(0.05)
    monkeypatch.undo()
    assert LiveLine._shown is None and capsys.readouterr().err == ""


def test_work_that_fails_clears_its_line(monkeypatch):
    def work():
        with pytest.raises(RuntimeError), Progress("reading", 10):
            time.sleep(0.05)
            raise RuntimeError

    assert shown_on(Terminal(), monkeypatch, work).endswith("\r\x1b[K")
    assert LiveLine._shown is None
