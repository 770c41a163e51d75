"""How a result was made: the command, the hardware, the day, the commit and the hours."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import subprocess

from sit_keras.runs.files import write_json

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "results"
FILE = "made.json"


@dataclasses.dataclass(frozen=True)
class Made:
    """How a result was made.

    Args:
        command: str. As it was typed.
        hardware: str.
        date: str. Of the last file of the work, as YYYY-MM-DD.
        commit: str. Of the code that did it.
        hours: float. Of training.
    """

    command: str
    hardware: str
    date: str
    commit: str
    hours: float

    def markdown(self) -> str:
        """Returns these facts as a table of Markdown."""
        rows = {
            "command": f"`{self.command}`",
            "hardware": self.hardware,
            "finished": self.date,
            "commit": f"`{self.commit}`",
            "hours of training": f"{self.hours:.2f}",
        }
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join(["| | |", "|---|---|", *lines]) + "\n"

    def write(self, folder: pathlib.Path) -> None:
        """Writes `made.json`."""
        write_json(folder / FILE, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Made":
        """Returns what `write` wrote."""
        return cls(**json.loads((folder / FILE).read_text()))


def hardware() -> str:
    """Returns the processor of this machine, with the number of its cores."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} CPU cores ({models[0] if models else platform.machine()})"


def day_of(path: pathlib.Path) -> str:
    """Returns the day on which a file was written."""
    return datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()


def commit() -> str:
    """Returns the commit of the project's folder, and says if files differ from it."""

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--", "sit_keras")
    return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")
