"""The curves of a training: losses, accuracies, alphas, weights, and shares of the gradient."""

import io
import os
import re
import typing

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the user's notebook
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sit_keras.config.checks import TASKS
from sit_keras.plots.figures import save_figure

# What people call a column, where it is not the name of a task.
_NAMES = {"loss": "all tasks", "knn_accuracy": "class, by neighbours"}


class Panel(typing.NamedTuple):
    """One chart of the curves.

    Args:
        title: str.
        columns: of the log, those of validation (`val_`) beside those of training.
        is_share: bool. Whether the values are shares, which are shown in per cent.
        good: str. What the curves of a good training look like.
    """

    title: str
    columns: tuple[str, ...]
    is_share: bool
    good: str


def curve_panels(log: dict[str, np.ndarray]) -> list[Panel]:
    """Returns the charts that a log has something for.

    Args:
        log: the columns of `log.csv` by their names; `epoch` counts from 0.
    """
    known = [name for name, values in log.items() if not np.isnan(values).all()]

    def columns(fits):
        return tuple(name for name in known if fits(name))

    tasks = tuple(n for task in TASKS for n in (task, f"val_{task}") if n in known)
    panels = [
        Panel(
            "Total loss",
            columns(lambda name: name in ("loss", "val_loss")),
            False,
            "It falls, and the dashed line of held-out images falls with it. With learned weights "
            "it may become negative.",
        ),
        Panel(
            "Loss of each task",
            tasks,
            False,
            "Each line falls below its dotted line, which is what guessing gives. A dashed line "
            "that rises again while the solid one falls shows overfitting.",
        ),
        Panel(
            "How often a task is right",
            columns(lambda name: name.endswith("_accuracy")),
            True,
            "Each line rises well above its dotted line, which is chance.",
        ),
        Panel(
            "Alpha of each task, learned",
            columns(lambda name: name.startswith("alpha_")),
            False,
            "A task whose alpha falls gains weight.",
        ),
        Panel(
            "Weight of each task in the loss",
            columns(lambda name: name.startswith("weight_")),
            False,
            "No task goes to 0, where it would no longer be trained.",
        ),
        Panel(
            "Share of the gradient at the encoder",
            columns(lambda name: name.startswith("share_")),
            True,
            "Every task keeps a share. One near 0 % does not shape the encoder.",
        ),
    ]
    return [panel for panel in panels if panel.columns]


def training_curves(
    log: dict[str, np.ndarray],
    path: str | os.PathLike,
    chance: dict[str, float] | None = None,
) -> None:
    """Plots all charts of a log into one picture.

    Args:
        log: the columns of `log.csv` by their names; `epoch` counts from 0.
        path: of the PNG.
        chance: by the name of a column its value by guessing, which is drawn as a dotted line.
    """
    figure = Figure(figsize=(13, 8), layout="constrained")
    panels = curve_panels(log)
    cells = list(figure.subplots(2, 3).flat)
    for axes, panel in zip(cells, panels, strict=False):
        _draw(axes, panel, log, chance or {})
        axes.set_title(panel.title, pad=42)
    for axes in cells[len(panels) :]:
        axes.set_axis_off()  # fixed weights have no alphas
    save_figure(figure, path)


def panel_svg(panel: Panel, log: dict[str, np.ndarray], chance: dict[str, float]) -> str:
    """Returns one chart as SVG for a page, whose lines of axes and texts have the page's colour.

    Args:
        panel: of `curve_panels`.
        log, chance: as for `training_curves`.
    """
    figure = Figure(figsize=(4.4, 3.4), layout="constrained")
    axes = figure.subplots()
    _draw(axes, panel, log, chance)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer, nothing = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Texts remain texts, and names within the SVG do not change from call to call.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": panel.title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("#000000", "currentColor")
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)


def _draw(axes, panel, log, chance):
    """Draws one chart, with a dotted line at what guessing gives."""
    few = np.sum(~np.isnan(log[panel.columns[0]])) < 3  # a line needs two points
    for name in panel.columns:
        known = ~np.isnan(log[name])
        axes.plot(
            log["epoch"][known] + 1,
            log[name][known],
            "--" if name.startswith("val_") else "-",
            color=_colour(name),
            marker="." if few or known.sum() < 3 else None,
            label=_label(name, panel.columns),
        )
    for name in panel.columns:
        if name in chance:
            axes.axhline(chance[name], linestyle=":", color=_colour(name))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(0, 1 if panel.columns[0].startswith("share_") else None)
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _label(name, columns):
    """Returns what people call a column; None for the held-out one beside one of training."""
    plain = name.removeprefix("val_")
    if plain != name and plain in columns:
        return None
    plain = plain.partition("_")[2] if plain.startswith(("alpha_", "weight_", "share_")) else plain
    return _NAMES.get(plain, plain.removesuffix("_accuracy"))


def _colour(name):
    """Returns the colour of a column, which is the same for a task in all charts."""
    for number, task in enumerate(TASKS):
        if task in name:
            return f"C{number}"
    return "C3" if name.startswith("knn") else "black"
