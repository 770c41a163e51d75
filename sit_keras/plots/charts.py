"""Charts: confusion matrices, maps of features, tables, searches.

Shapes: N images, K classes.
"""

import os
import typing

import matplotlib
import numpy as np
from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the user's notebook

from sit_keras.plots.figures import save_figure


def confusion_sheet(
    confusion: np.ndarray, class_names: typing.Sequence[str], path: str | os.PathLike
) -> None:
    """Plots a confusion matrix, in which each row is divided by its sum.

    Args:
        confusion: (K, K) int, whose rows are the true classes.
        class_names: K names.
        path: of the PNG.
    """
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    count = len(class_names)
    side = min(12.0, 3 + 0.35 * count)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    if count <= 40:  # more names cannot be read
        plain: dict[str, typing.Any] = {
            "fontsize": 7,
            "parse_math": False,
        }  # a name may contain a $
        axes.set_xticks(range(count), class_names, rotation=90, **plain)
        axes.set_yticks(range(count), class_names, **plain)
    if count <= 12:
        for (i, j), number in np.ndenumerate(confusion):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(number), ha="center", va="center", color=colour, fontsize=7)
    save_figure(figure, path, dpi=120)


def feature_map(
    plane: np.ndarray,
    labels: np.ndarray,
    class_names: typing.Sequence[str],
    path: str | os.PathLike,
) -> None:
    """Plots images as points of a plane, coloured by class.

    Args:
        plane: (N, 2) float32, such as of `sit_keras.evaluation.feature_plane`.
        labels: (N,) int; -1 for an image without a label.
        class_names: K names.
        path: of the PNG.
    """
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["tab20" if len(class_names) > 10 else "tab10"]
    unlabelled = plane[labels < 0]
    axes.scatter(unlabelled[:, 0], unlabelled[:, 1], s=8, color="grey")
    dots = [
        axes.scatter(
            plane[labels == index, 0],
            plane[labels == index, 1],
            s=8,
            color=colours(index % colours.N),
        )
        for index in range(len(class_names))
    ]
    if 0 < len(class_names) <= 20:
        # Handles are given, since matplotlib leaves out labels that begin with an underscore.
        legend = figure.legend(
            dots, class_names, loc="outside right upper", fontsize=8, markerscale=2
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    axes.set_axis_off()
    save_figure(figure, path, dpi=120)


def table_chart(entries: typing.Sequence[dict], path: str | os.PathLike) -> None:
    """Plots the numbers of a table as bars, and those of the paper as marks.

    Args:
        entries: dicts of `row`, `column`, `mean`, `deviation` or None, and `paper` in percent or
            None.
        path: of the PNG.
    """
    rows = list(dict.fromkeys(entry["row"] for entry in entries))
    columns = list(dict.fromkeys(entry["column"] for entry in entries))
    height = 0.8 / len(columns)
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(rows) * (1 + len(columns))), layout="constrained")
    axes = figure.subplots()
    for number, column in enumerate(columns):
        chosen = [entry for entry in entries if entry["column"] == column]
        places = [rows.index(entry["row"]) + height * number for entry in chosen]
        values = [100 * entry["mean"] for entry in chosen]
        spreads = [100 * (entry["deviation"] or 0) for entry in chosen]
        bars = axes.barh(places, values, height, xerr=spreads, label=column, alpha=0.8)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        known = [(entry["paper"], at) for entry, at in zip(chosen, places, strict=True)]
        known = [(value, at) for value, at in known if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "k|", markersize=12, label=f"{column}, paper")
    places = [i + height * (len(columns) - 1) / 2 for i in range(len(rows))]
    axes.set_yticks(places, rows, parse_math=False)  # a name may contain a $
    axes.invert_yaxis()
    axes.set(xlabel="top-1 accuracy, %", xlim=(0, 105))
    figure.legend(loc="outside upper right", ncols=2 * len(columns), fontsize=8)
    save_figure(figure, path, dpi=120)


def search_chart(trials: typing.Sequence[dict], path: str | os.PathLike) -> None:
    """Plots the score of each trial against each setting that a search changed.

    Args:
        trials: dicts of `score` and of `changes`, the values of settings by their names.
        path: of the PNG.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial["changes"]))
    names = [name for name in names if name not in ("task_weights", "warmup_epochs")]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines), layout="constrained")
    cells = figure.subplots(lines, columns, squeeze=False).flat
    for name, axes in zip(names, cells, strict=False):
        points = [(t["changes"][name], 100 * t["score"]) for t in trials if name in t["changes"]]
        axes.plot(*zip(*points, strict=True), "o", alpha=0.7)
        values = [value for value, _ in points if not isinstance(value, str)]
        if values and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_xscale("log")
        axes.set(xlabel=name, ylabel="score, %")
    for axes in list(cells):  # cells without a chart
        axes.set_axis_off()
    save_figure(figure, path, dpi=120)
