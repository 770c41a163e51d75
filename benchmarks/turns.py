"""Measures contenders that take turns, each in a process of its own.

What slows the machine down for a while slows all of them down alike, so the ratios of one run hold.
"""

import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import typing

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do a piece of work.

    Args:
        case: str. What the work is; contenders of one case are compared, the first is the measure.
        name: str. Who does it.
        target: str. `module:function`. The function is called in the contender's own process with
            `arguments`, imports what it needs, prepares everything, and returns a function without
            arguments that does the work once and returns its figures, a dict from name to number.
        arguments: dict. Of the function, as JSON has them.
        packages: names of optional packages without which it is left out.
        environment: dict. Environment variables of its process.
        fresh: bool. A new process for each round, for peaks of memory and times from the start.
    """

    case: str
    name: str
    target: str
    arguments: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    packages: tuple[str, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    fresh: bool = False

    @property
    def missing(self) -> list[str]:
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


@dataclasses.dataclass(frozen=True)
class Row:
    """What a contender was measured at: for each figure its median, smallest and largest value."""

    case: str
    name: str
    figures: dict[str, tuple[float, float, float]]


def take_turns(
    contenders: typing.Sequence[Contender],
    rounds: int,
    say: typing.Callable[[str], None] = print,
    device: str = "cpu",
) -> list[Row]:
    """Measures the contenders of each case in turns.

    Args:
        contenders: of one figure, grouped by case.
        rounds: int. How often each of them is measured.
        say: receives a line for each contender that is left out or that fails.
        device: str. `cpu` hides the GPUs from contenders, `gpu` lets them use the first one.

    Returns:
        A row for each contender that was measured.
    """
    rows = []
    for case in dict.fromkeys(contender.case for contender in contenders):
        players = []
        for contender in (c for c in contenders if c.case == case):
            if contender.missing:
                say(f"{case}: {contender.name} left out: not installed: {contender.missing}.")
            else:
                players.append(_Player(contender, device))
        try:
            for _ in range(rounds):
                for player in players:
                    player.play()
        finally:
            for player in players:
                player.stop()
        for player in players:
            if player.failure:
                say(f"{case}: {player.contender.name} failed: {player.failure}")
            else:
                rows.append(player.row())
    return rows


class _Player:
    """The process of a contender. It idles while others measure."""

    def __init__(self, contender, device):
        self.contender = contender
        self._device = device
        self.failure = None
        self._process = None
        self._errors = tempfile.TemporaryFile("w+")
        self._found = []

    def play(self):
        if self.failure:
            return
        if self._process is None:
            self._process = self._start()
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        for line in self._process.stdout:
            if line.startswith(_MARK):
                self._found.append(json.loads(line.removeprefix(_MARK)))
                break
        else:
            self._process.wait()
            self._errors.seek(0)
            self.failure = "".join(self._errors.readlines()[-5:]).strip()
        if self.contender.fresh:
            self.stop()

    def stop(self):
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def row(self):
        figures = {}
        for name in self._found[0]:
            values = [found[name] for found in self._found]
            figures[name] = (statistics.median(values), min(values), max(values))
        return Row(self.contender.case, self.contender.name, figures)

    def _start(self):
        settings = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        if self._device == "cpu":
            settings["CUDA_VISIBLE_DEVICES"] = ""
        return subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(dataclasses.asdict(self.contender))],
            cwd=ROOT,
            env={**os.environ, **settings, **self.contender.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )


_MARK = "figures: "


def main() -> None:
    """Is a contender's process: prepares, then measures once for each line that comes in."""
    contender = Contender(**json.loads(sys.argv[1]))
    module, function = contender.target.split(":")
    measure = getattr(importlib.import_module(module), function)(**contender.arguments)
    for _ in sys.stdin:
        print(_MARK + json.dumps(measure()), flush=True)


if __name__ == "__main__":
    main()


def median_ms(function: typing.Callable[[], typing.Any], seconds: float) -> float:
    """Calls a function for some seconds, after three calls that are not counted.

    Args:
        function: what is timed.
        seconds: float.

    Returns:
        The median of the times of a call in milliseconds.
    """
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)
