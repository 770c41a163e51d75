"""A chart that lays the curves of several runs over each other."""

import os
import typing

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sit_keras.config.checks import TASKS
from sit_keras.plots.figures import save_figure


def run_curves(
    logs: typing.Sequence[tuple[str, dict[str, np.ndarray]]], path: str | os.PathLike
) -> None:
    """Plots the losses and accuracies of runs over their epochs.

    Held-out values where a run has them, else those of training, dashed.

    Args:
        logs: pairs of a run's name and the columns of its `log.csv`; runs without an epoch are
            left out.
        path: of the PNG.
    """
    logs = [(name, log) for name, log in logs if log]
    measures = [*TASKS, "rotation_accuracy", "contrastive_accuracy", "knn_accuracy"]
    titles = [f"{task} loss" for task in TASKS]
    titles += ["rotation accuracy, %", "contrastive accuracy, %", "nearest neighbours, %"]
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    colours = matplotlib.colormaps["tab20" if len(logs) > 10 else "tab10"]
    lines = {}
    cells = figure.subplots(2, 3).flat
    for measure, title, axes in zip(measures, titles, cells, strict=True):
        for number, (name, log) in enumerate(logs):
            column, style = f"val_{measure}", "-"
            if np.isnan(log.get(column, np.nan)).all():
                column, style = measure, "--"
            values = log.get(column, np.full(len(log["epoch"]), np.nan))
            known = ~np.isnan(values)
            if known.any():
                lines[name] = axes.plot(
                    log["epoch"][known] + 1,
                    values[known] * (100 if measure.endswith("_accuracy") else 1),
                    "-" if measure == "knn_accuracy" else style,
                    color=colours(number % colours.N),
                    marker="." if known.sum() < 3 else None,  # a line needs two points
                )[0]
        if not axes.lines:
            axes.set_axis_off()
            continue
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
    if lines:
        legend = figure.legend(lines.values(), lines, loc="outside lower center", ncols=4,
                               fontsize=8)  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may contain a $
    save_figure(figure, path)
