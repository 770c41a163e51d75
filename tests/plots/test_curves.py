"""The curves of a training."""

import re

import numpy as np
from matplotlib.figure import Figure

from sit_keras.plots.curves import curve_panels, panel_svg, training_curves

NAMES = ("loss", "rotation", "val_rotation", "rotation_accuracy", "share_rotation",
         "share_contrastive", "alpha_rotation")  # fmt: skip
LOG = {"epoch": np.arange(3.0), **{name: np.full(3, 0.5) for name in NAMES}}


def drawn(tmp_path, monkeypatch, chance=None):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    training_curves(LOG, tmp_path / "curves.png", chance)
    return {axes.get_title(): axes for axes in figures[0].axes}


def test_shares_are_in_per_cent_from_0_to_100(tmp_path, monkeypatch):
    panel = drawn(tmp_path, monkeypatch)["Share of the gradient at the encoder"]
    assert panel.get_ylim() == (0, 1) and len(panel.lines) == 2
    assert panel.yaxis.get_major_formatter()(0.25) == "25%"


def test_a_dotted_line_shows_what_guessing_gives(tmp_path, monkeypatch):
    panels = drawn(tmp_path, monkeypatch, {"rotation_accuracy": 0.25, "rotation": 1.386})
    lines = panels["How often a task is right"].lines
    dotted = [line for line in lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in dotted] == [0.25]
    assert len(panels["Loss of each task"].lines) == 3 and len(panels["Total loss"].lines) == 1


def test_the_legend_names_a_task_once_and_not_a_column_of_the_log(tmp_path, monkeypatch):
    legend = drawn(tmp_path, monkeypatch)["Loss of each task"].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["rotation"]


def test_only_what_was_measured_has_a_chart():
    log = {**LOG, "val_loss": np.full(3, np.nan)}
    panels = {panel.title: panel.columns for panel in curve_panels(log)}
    assert panels["Total loss"] == ("loss",) and "Weight of each task in the loss" not in panels


def test_a_chart_of_a_page_has_the_colour_of_the_page_and_the_same_text_each_time():
    panel = curve_panels(LOG)[1]
    svg = panel_svg(panel, LOG, {"rotation": 1.386})
    assert svg.startswith("<svg") and svg == panel_svg(panel, LOG, {"rotation": 1.386})
    assert "currentColor" in svg and "#000000" not in svg and "metadata" not in svg
    assert ">epoch</text>" in svg and not re.search("<svg[^>]* width=", svg)
