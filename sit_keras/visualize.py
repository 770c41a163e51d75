"""Pictures of what SiT does."""

import os
import pathlib

import numpy as np
from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the user's notebook

from sit_keras.augment import denormalize


def reconstruction_sheet(
    clean: np.ndarray,
    corrupted: np.ndarray,
    restored: np.ndarray | None,
    rotation: np.ndarray,
    predicted_rotation: np.ndarray | None,
    path: str | os.PathLike,
) -> None:
    """Writes a sheet of clean, corrupted and restored images, one image a column.

    Args:
        clean, corrupted: (M, S, S, 3) float32, normalised.
        restored: the same, or None where the task is left out.
        rotation: (M,) int, true quarter turns clockwise.
        predicted_rotation: (M,) int, or None where the task is left out.
        path: of the PNG.
    """
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = [("clean", clean), ("corrupted", corrupted)]
    if restored is not None:
        rows.append(("restored", restored))
    count = len(clean)
    figure = Figure(figsize=(1.5 * count, 1.5 * len(rows) + 0.4), layout="tight")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(axes, rows, strict=True):
        line[0].set_ylabel(name)
        for cell, image in zip(line, images, strict=True):
            cell.imshow(np.clip(np.asarray(denormalize(image)), 0, 1), interpolation="nearest")
            cell.set_xticks([])
            cell.set_yticks([])
    for i in range(count):
        title = f"{90 * rotation[i]}°"
        if predicted_rotation is not None:
            right = predicted_rotation[i] == rotation[i]
            title += f", said {90 * predicted_rotation[i]}°"
            axes[0][i].title.set_color("darkgreen" if right else "darkred")
        axes[0][i].set_title(title, fontsize=8)
    figure.savefig(path, dpi=100)
