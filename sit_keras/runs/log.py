"""The CSV log of a run."""

import pathlib

import numpy as np

from sit_keras.runs.files import write_text


def forget_later_epochs(log: pathlib.Path, epochs_done: int) -> None:
    """Takes the epochs out of the log that were logged but not saved before a run was cut off."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)  # the first has the names
        write_text(log, "".join(lines[: epochs_done + 1]))


def read_log(log: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the columns of a log by their names.

    Args:
        log: pathlib.Path of a `log.csv`.

    Returns:
        Arrays (epochs,) float64, NaN where nothing was measured. A line that was cut off, by a full
        disk or because it is being written, is left out.

    Raises:
        ValueError: if no epoch was logged yet.
    """
    # The last part is what follows the last end of a line: nothing, or a line cut off.
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    names, rows = lines[0].split(",") if lines else [], []
    for line in lines[1:]:
        try:
            # The logger has columns for validation even where there is none.
            row = [float("nan" if value == "NA" else value) for value in line.split(",")]
        except ValueError:
            continue
        if len(row) == len(names):
            rows.append(row)
    if not rows:
        raise ValueError(f"No epoch is logged in {log} yet: let the first one end.")
    return dict(zip(names, np.array(rows).T, strict=True))


def last_losses(log: pathlib.Path) -> dict[str, float]:
    """Returns the values of the last whole line of a log, by the names of its columns."""
    last = {name: float(values[-1]) for name, values in read_log(log).items()}
    return {name: value for name, value in last.items() if not np.isnan(value)}
