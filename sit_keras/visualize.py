"""Pictures of what SiT does."""

import os
import pathlib
import typing

import matplotlib
import numpy as np
from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the user's notebook
from sklearn.manifold import TSNE

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


def confusion_sheet(
    confusion: np.ndarray, class_names: typing.Sequence[str], path: str | os.PathLike
) -> None:
    """Draws a confusion matrix, each row to its own sum.

    Args:
        confusion: (K, K) int, rows the true classes.
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
        axes.set_xticks(range(count), class_names, rotation=90, fontsize=7)
        axes.set_yticks(range(count), class_names, fontsize=7)
    if count <= 12:
        for (i, j), number in np.ndenumerate(confusion):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(number), ha="center", va="center", color=colour, fontsize=7)
    figure.savefig(path, dpi=120)


def feature_map(
    features: np.ndarray,
    labels: np.ndarray,
    class_names: typing.Sequence[str],
    path: str | os.PathLike,
    seed: int = 0,
) -> None:
    """Draws images as points of a plane by t-SNE of their features, coloured by class.

    Args:
        features: (N, E) float32.
        labels: (N,) int.
        class_names: K names.
        path: of the PNG.
        seed: int.
    """
    perplexity = min(30, max(1, (len(features) - 1) // 3))
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["tab20" if len(class_names) > 10 else "tab10"]
    for index, name in enumerate(class_names):
        points = plane[labels == index]
        axes.scatter(*points.T, s=8, color=colours(index % colours.N), label=name)
    if len(class_names) <= 20:
        figure.legend(loc="outside right upper", fontsize=8, markerscale=2)
    axes.set_axis_off()
    figure.savefig(path, dpi=120)


def table_chart(entries: typing.Sequence[dict], path: str | os.PathLike) -> None:
    """Draws the numbers of a table as bars, the deck's as marks.

    Args:
        entries: dicts of `row`, `column`, `mean`, `deviation` or None, and `deck` in percent or
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
        known = [(entry["deck"], at) for entry, at in zip(chosen, places, strict=True)]
        known = [(value, at) for value, at in known if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "k|", markersize=12, label=f"{column}, deck")
    axes.set_yticks([i + height * (len(columns) - 1) / 2 for i in range(len(rows))], rows)
    axes.invert_yaxis()
    axes.set(xlabel="top-1 accuracy, %", xlim=(0, 105))
    figure.legend(loc="outside upper right", ncols=2 * len(columns), fontsize=8)
    figure.savefig(path, dpi=120)


def search_chart(trials: typing.Sequence[dict], path: str | os.PathLike) -> None:
    """Draws the score of each trial over each setting that a search changed.

    Args:
        trials: dicts of `score` and `changes`, a dict of settings.
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
    for axes in list(cells):  # those left over
        axes.set_axis_off()
    figure.savefig(path, dpi=120)


def outlier_sheet(
    images: typing.Sequence[np.ndarray],
    restored: typing.Sequence[np.ndarray],
    titles: typing.Sequence[str],
    path: str | os.PathLike,
) -> None:
    """Draws images above what was restored of them.

    Args:
        images: (H, W, 3) uint8 each.
        restored: (S, S, 3) float32 in [0, 1] each.
        titles: a text for each.
        path: of the PNG.
    """
    count = len(images)
    figure = Figure(figsize=(1.5 * count, 3.6), layout="constrained")
    lines = figure.subplots(2, count, squeeze=False)
    for line, pictures in zip(lines, (images, restored), strict=True):
        for cell, picture in zip(line, pictures, strict=True):
            cell.imshow(picture, interpolation="nearest")
            cell.set_axis_off()
    for cell, title in zip(figure.axes[:count], titles, strict=True):
        cell.set_title(title, fontsize=7, parse_math=False)
    figure.savefig(path, dpi=100)
