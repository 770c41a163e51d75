"""Where lists of images go: a CSV file, or an HTML page of thumbnails."""

import csv
import io
import os
import pathlib
import typing

from sit_keras.data.finding import printable
from sit_keras.runs.files import write_text
from sit_keras.workflows.image_sheet import Row, write_sheet

SUFFIXES = (".html", ".csv")
SHOWN = 200  # rows of a page


def check_output(output: str | os.PathLike | None) -> pathlib.Path | None:
    """Returns the path of a list that is asked for.

    Raises:
        ValueError: if its ending is neither .html nor .csv.
    """
    if output is None:
        return None
    path = pathlib.Path(output).expanduser()
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"--output is a file that ends in {' or '.join(SUFFIXES)}; received "
            f"{printable(str(path))}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_list(
    path: pathlib.Path,
    title: str,
    notes: typing.Sequence[str],
    rows: typing.Sequence[dict],
    sections: typing.Callable[[int], list[Row]],
) -> None:
    """Writes a list as its ending says.

    Args:
        path: of `check_output`.
        title, notes: of the page.
        rows: what the CSV file holds, of the same keys each.
        sections: returns at most so many sections of the page.
    """
    if path.suffix == ".html":
        write_sheet(path, title, notes, sections(SHOWN))
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    write_text(path, buffer.getvalue())
