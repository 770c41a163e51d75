"""Writes figures to files."""

import os
import pathlib

from matplotlib.figure import Figure

from sit_keras.config.files import written_whole


def save_figure(figure: Figure, path: str | os.PathLike, dpi: int = 100) -> None:
    """Writes a figure to a PNG file, whole or not at all, and makes the file's folder.

    Args:
        figure: Figure.
        path: of the file.
        dpi: int. Pixels per inch of the figure's size.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as aside:
        figure.savefig(aside, dpi=dpi)
