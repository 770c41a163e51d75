"""The progress of long work: a live line on a terminal, a line from time to time in a file.

A thread shows it, so that work which reports nothing, such as compiling, is seen to go on, and
work in small steps is not slowed down by showing them. Standard library only.
"""

import shutil
import sys
import threading
import time
import typing

LIVE_SECONDS = 0.5  # between two states of the line on a terminal
LOG_SECONDS = 30.0  # between two lines in a file
COLUMNS = 100

_CLEARED = "\r\x1b[K"  # the line of a terminal, and back to its beginning


class LiveLine:
    """Shows a text that changes, on the standard error, while the context lasts.

    On a terminal it is one line that is written over and cleared at the end. Anywhere else it is a
    line every `LOG_SECONDS`, so nothing for work that is shorter. Within another one, only the
    outer one is shown.

    Args:
        text: called for the text to show, on another thread.
    """

    _shown: typing.ClassVar["LiveLine | None"] = None

    def __init__(self, text: typing.Callable[[], str]):
        self._text = text
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "typing.Self":
        if LiveLine._shown is None:
            LiveLine._shown = self
            self._stream, self._end = sys.stderr, threading.Event()
            self._is_live, self._is_written = self._stream.isatty(), False
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._thread is None:
            return
        self._end.set()
        self._thread.join()
        self._thread = LiveLine._shown = None
        if self._is_live and self._is_written:
            self._write(_CLEARED)

    def say(self, text: str) -> None:
        """Prints a line to the standard error, in place of what is shown there now."""
        print(f"{_CLEARED if sys.stderr.isatty() else ''}{text}", file=sys.stderr, flush=True)

    def _show(self):
        while not self._end.wait(LIVE_SECONDS if self._is_live else LOG_SECONDS):
            try:
                text = self._text()
            except Exception:  # what went wrong is raised where the work is done
                return
            if self._is_live:
                columns = shutil.get_terminal_size().columns
                text = f"{_CLEARED}{text[: columns - 1]}"
            else:
                text = f"{text[:COLUMNS]}\n"
            if not self._write(text):
                return

    def _write(self, text) -> bool:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads on, or the stream is closed
            return False
        self._is_written = True
        return True


class Progress(LiveLine):
    """Shows how much of some work is done, how fast it goes, and how long the rest will take.

    The speed is that after the first report, so without what was compiled or read before it.

    Args:
        what: str. The work, such as `features`.
        total: int or None. How many units there are; None if that is not known.
        unit: str. What is counted, in the plural.

    Example:
        ```
        with Progress("features", len(batches), "batches") as progress:
            for batch in batches:
                ...
                progress.advance()
        ```
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "images"):
        super().__init__(self.line)
        self._what, self._total, self._unit, self._details = what, total, unit, ""
        self._begin = time.monotonic()
        self._done = self._timed = 0
        self._first: float | None = None  # times of reports
        self._last = self._begin

    def advance(self, count: int = 1, details: str = "") -> None:
        """Reports that so many more units are done, and what to show beside them."""
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last
        else:
            self._timed += count
        self._done += count
        self._details = details

    def skip(self, count: int) -> None:
        """Counts units that were done before, which say nothing about the speed."""
        self._done += count

    def line(self) -> str:
        """Returns what is shown now."""
        done, now = f"{self._done:,}", time.monotonic()
        if self._total is None:
            parts = [f"{self._what}: {done} {self._unit}"] if self._done else [self._what]
        else:
            share = self._done / max(self._total, 1)
            parts = [f"{self._what}: {done} of {self._total:,} {self._unit} ({share:.0%})"]
        if self._timed and self._first is not None and self._last > self._first:
            speed = self._timed / (self._last - self._first)
            parts.append(speed_text(speed, self._unit))
            if self._total is not None:
                left = (self._total - self._done) / speed - (now - self._last)
                parts.append(f"ETA {duration(max(left, 0))}")
        else:
            parts.append(f"{duration(now - self._begin)} so far")
        return " | ".join([*parts, *([self._details] if self._details else [])])


def speed_text(speed: float, unit: str) -> str:
    """Returns a number of units per second with about three digits."""
    digits = 2 if speed < 9.995 else 1 if speed < 99.95 else 0
    return f"{speed:,.{digits}f} {unit}/s"


def duration(seconds: float) -> str:
    """Returns a time as `0:42`, `12:34`, `19h05m` or `4d03h`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 100 else f"{hours // 24}d{hours % 24:02d}h"
