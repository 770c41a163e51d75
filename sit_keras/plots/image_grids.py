"""Grids of images: views and their corruption, restored images, attention, neighbours.

Shapes: M images, S side, C channels, A attention heads, K neighbours.
"""

import os
import typing

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the user's notebook

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.plots.colours import visible
from sit_keras.plots.figures import save_figure
from sit_keras.plots.overlays import COLOURS, over_image
from sit_keras.plots.tiles import Strip

CORRECT, WRONG = "darkgreen", "darkred"
_DEFAULT = PreprocessingConfig()
_IMAGE = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}


def _cells(rows, columns, side=1.5, above=0.4):
    """Returns a figure of square cells without axes, and the cells (rows, columns)."""
    figure = Figure(figsize=(side * columns, side * rows + above), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False)
    for cell in cells.flat:
        cell.set_xticks([])
        cell.set_yticks([])
        for spine in cell.spines.values():
            spine.set_visible(False)
    return figure, cells


def to_pixels(images, preprocessing):
    """Returns normalised images (..., C) float32 as `visible` pixels in [0, 1]."""
    pixels = np.asarray(images) * np.array(preprocessing.std) + np.array(preprocessing.mean)
    return np.clip(visible(pixels), 0, 1)


def _rows(rows, preprocessing, side=1.5):
    """Returns a figure with each of the named rows of normalised images, and its cells."""
    figure, cells = _cells(len(rows), len(next(iter(rows.values()))), side)
    for line, (name, images) in zip(cells, rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=8)
        for cell, image in zip(line, to_pixels(images, preprocessing), strict=True):
            cell.imshow(image, **_IMAGE)
    return figure, cells


def reconstruction_sheet(
    clean: np.ndarray,
    corrupted: np.ndarray,
    restored: np.ndarray | None,
    rotation: np.ndarray,
    predicted_rotation: np.ndarray | None,
    path: str | os.PathLike,
    preprocessing: PreprocessingConfig = _DEFAULT,
) -> None:
    """Plots clean, corrupted and restored images, one image a column.

    Args:
        clean, corrupted: (M, S, S, C) float32, normalised.
        restored: (M, S, S, C) float32, normalised; None without the reconstruction task.
        rotation: (M,) int, the true quarter turns clockwise.
        predicted_rotation: (M,) int, or None without the rotation task.
        path: of the PNG.
        preprocessing: PreprocessingConfig. How the images were normalised.
    """
    rows = {"clean": clean, "corrupted": corrupted}
    if restored is not None:
        rows["restored"] = restored
    figure, cells = _rows(rows, preprocessing)
    for i, cell in enumerate(cells[0]):
        title, colour = f"{90 * rotation[i]}°", "black"
        if predicted_rotation is not None:
            title += f", predicted {90 * predicted_rotation[i]}°"
            colour = CORRECT if predicted_rotation[i] == rotation[i] else WRONG
        cell.set_title(title, fontsize=8, color=colour)
    save_figure(figure, path)


def corruption_gallery(
    stages: dict[str, np.ndarray],
    path: str | os.PathLike,
    preprocessing: PreprocessingConfig = _DEFAULT,
) -> None:
    """Plots a row of images for each kind of corruption.

    Args:
        stages: by the name of the corruption, the same images (M, S, S, C) float32, normalised.
        path: of the PNG.
        preprocessing: PreprocessingConfig. How the images were normalised.
    """
    figure, _ = _rows(stages, preprocessing)
    save_figure(figure, path)


def attention_sheet(
    images: np.ndarray,
    heads: np.ndarray,
    rollout: np.ndarray,
    path: str | os.PathLike,
    preprocessing: PreprocessingConfig = _DEFAULT,
) -> None:
    """Plots the attention of a token: each head of the last block, their mean, and the rollout.

    Each map is scaled from its least to its greatest value, enlarged, and laid over the image.

    Args:
        images: (M, S, S, C) float32, normalised.
        heads: (M, A, rows, columns) float32, the attention to the patches.
        rollout: (M, rows, columns) float32.
        path: of the PNG.
        preprocessing: PreprocessingConfig. How the images were normalised.
    """
    num_heads = heads.shape[1]
    titles = ["image", *(f"head {i + 1}" for i in range(num_heads)), "mean of heads", "rollout"]
    figure, cells = _cells(len(images), len(titles), side=1.2)
    for cell, title in zip(cells[0], titles, strict=True):
        cell.set_title(title, fontsize=8)
    columns = zip(cells, to_pixels(images, preprocessing), heads, rollout, strict=True)
    for line, image, each, flow in columns:
        line[0].imshow(image, **_IMAGE)
        for cell, weights in zip(line[1:], [*each, each.mean(axis=0), flow], strict=True):
            cell.imshow(over_image(image, weights))
    scale = ScalarMappable(Normalize(0, 1), cmap=COLOURS)
    bar = figure.colorbar(scale, ax=cells, shrink=0.6, ticks=(0, 1))
    bar.ax.set_yticklabels(["least", "most"], fontsize=8)
    save_figure(figure, path)


def neighbour_sheet(
    queries: np.ndarray,
    neighbours: np.ndarray,
    similarities: np.ndarray,
    path: str | os.PathLike,
    names: np.ndarray | None = None,
    neighbour_names: np.ndarray | None = None,
    preprocessing: PreprocessingConfig = _DEFAULT,
) -> None:
    """Plots images beside their nearest neighbours in the space of features.

    Args:
        queries: (M, S, S, C) float32, normalised.
        neighbours: (M, K, S, S, C) float32, normalised, the most similar first.
        similarities: (M, K) float32, cosines.
        path: of the PNG.
        names: (M,) names of the classes of the queries, or None.
        neighbour_names: (M, K) names of the classes of the neighbours, or None.
        preprocessing: PreprocessingConfig. How the images were normalised.
    """
    count, k = similarities.shape
    figure, cells = _cells(count, 1 + k, side=1.2)
    for i, line in enumerate(cells):
        line[0].imshow(to_pixels(queries[i], preprocessing), **_IMAGE)
        line[0].set_title("image" if names is None else names[i], fontsize=8, parse_math=False)
        for j, cell in enumerate(line[1:]):
            cell.imshow(to_pixels(neighbours[i, j], preprocessing), **_IMAGE)
            title, colour = f"{similarities[i, j]:.2f}", "black"
            if names is not None and neighbour_names is not None:
                title = f"{neighbour_names[i, j]} {title}"
                colour = CORRECT if neighbour_names[i, j] == names[i] else WRONG
            cell.set_title(title, fontsize=7, color=colour, parse_math=False)
    save_figure(figure, path)


def tile_sheet(strips: typing.Sequence[Strip], path: str | os.PathLike) -> None:
    """Plots strips of as many tiles each, one image a column.

    Args:
        strips: of `sit_keras.plots.tiles`.
        path: of the PNG.
    """
    count = len(strips[0].tiles)
    figure, cells = _cells(count, len(strips))
    for column, strip in enumerate(strips):
        for cell, tile in zip(cells[:, column], strip.tiles, strict=True):
            cell.imshow(tile.pixels, **_IMAGE)
    for cell, tile in zip(cells[:, 0], strips[0].tiles, strict=True):
        cell.set_ylabel(tile.text, fontsize=8)
    save_figure(figure, path)


def outlier_sheet(
    images: typing.Sequence[np.ndarray],
    restored: typing.Sequence[np.ndarray],
    titles: typing.Sequence[str],
    path: str | os.PathLike,
) -> None:
    """Plots images above their reconstructions.

    Args:
        images: M images (H, W, C) uint8.
        restored: M reconstructions (S, S, C) float32 in [0, 1].
        titles: M texts.
        path: of the PNG.
    """
    figure, cells = _cells(2, len(images), above=0.6)
    for line, pictures in zip(cells, (images, restored), strict=True):
        for cell, picture in zip(line, pictures, strict=True):
            white = 255 if picture.dtype == np.uint8 else 1
            cell.imshow(visible(picture), **{**_IMAGE, "vmax": white})
    for cell, title in zip(cells[0], titles, strict=True):
        cell.set_title(title, fontsize=7, parse_math=False)
    save_figure(figure, path)
