"""Writes a page about a run: baselines, evaluations, pictures and settings, in one HTML file."""

import os
import pathlib
import typing

from sit_keras.config.presets import started_from
from sit_keras.config.serialization import flat
from sit_keras.config.settings import RunConfig
from sit_keras.plots.colours import SHOWN_CHANNELS
from sit_keras.plots.curves import curve_panels, panel_svg
from sit_keras.runs.answer import answer
from sit_keras.runs.chance import chance_levels
from sit_keras.runs.files import read_json
from sit_keras.runs.folder import read_settings
from sit_keras.runs.log import read_log
from sit_keras.runs.results import (
    BASELINES_HEADING,
    baseline_rows,
    finished_results,
    probe_images_text,
)
from sit_keras.runs.shown_names import shown_dataset, shown_settings
from sit_keras.workflows.class_table import CLASS_HEADING, class_rows, confusion_of_neighbours
from sit_keras.workflows.evaluations_shown import evaluations
from sit_keras.workflows.explored import Explored
from sit_keras.workflows.page import (
    Section,
    album,
    captions,
    chart,
    gallery,
    map_parts,
    paragraph,
    sheet,
    table,
    write_page,
)
from sit_keras.workflows.picture import Picture
from sit_keras.workflows.pictures import look_at

MAX_SHEETS = 6
# The pictures that come first.
_FIRST = ("neighbours", "reconstructions", "attention-rotation", "attention-contrastive", "patches")


def report(
    run: str | os.PathLike,
    dataset: str | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> pathlib.Path:
    """Plots all pictures of a run, writes one page of them, and prints where they are.

    Args:
        run, dataset, data_dir, download: as for `draw_pictures`.

    Returns:
        The page, `report.html` in the run folder.

    Raises:
        ValueError: if there is no run, or its images are not there.
    """
    pictures, explored = look_at(run, dataset, data_dir, download)
    for picture in pictures:
        print(f"{picture.path}: {picture.caption}")
    page = write_report(run, pictures, explored)
    print(f"\nReport: {page}   (open it in a browser)")
    print(f"Also:   tensorboard --logdir={pathlib.Path(run) / 'tensorboard'}")
    return page


def write_report(
    run: str | os.PathLike,
    pictures: typing.Sequence[Picture],
    explored: Explored | None = None,
) -> pathlib.Path:
    """Writes `report.html` into a run folder; the file contains all its pictures.

    Args:
        run: a run folder.
        pictures: of `draw_pictures`.
        explored: the images of the interactive map, or None to leave it out.

    Returns:
        The file.
    """
    run = pathlib.Path(run)
    config, results = read_settings(run), finished_results(run) or {}
    log = read_log(run / "log.csv")
    versions = read_json(run / "config.json", "the settings of a run", ["versions"])["versions"]
    by_name = {picture.path.stem: picture for picture in pictures}
    curves = by_name.pop("curves", None)
    on_map = by_name.pop("feature_map", None)
    sections = [
        Section("baselines", "Compared with what needs no training", _baselines(results)),
        Section("map", "A map of the images", _map(on_map, explored)),
        Section("doubts", "Labels that the neighbours contradict", _doubts(explored)),
        *(Section(name, each.title, _picture(each)) for name, each in _in_order(by_name)),
        Section("classes", "Class by class", _classes(explored)),
        Section("curves", "How the training went", _curves(curves, log, config, results)),
        *evaluations(run),
        Section("sheets", "The same views after several epochs", _sheets(run / "sheets")),
        Section("settings", "Settings", _settings(config)),
        Section("versions", "Versions", [table(versions.items())]),
    ]
    path = run / "report.html"
    title = f"{shown_dataset(config.dataset)}, {config.preset}, seed {config.seed}"
    write_page(path, title, _lead(config, log), _answer(config, results, log), sections)
    return path


def _lead(config, log):
    done = f"{len(log['epoch'])} of {config.epochs} epochs by {', '.join(config.tasks)}"
    text = f"SiT with {config.model.num_parameters:,} parameters, pre-trained for {done}."
    channels = config.model.channels
    if channels not in (1, 3):
        text += f" Of the {channels} channels, pictures show {SHOWN_CHANNELS}."
    return text


def _answer(config, results, log):
    """Returns what a finished run amounts to; a run of an earlier version has no sentences yet."""
    if not results:
        return None
    sentences = results.get("answer") or answer(config, results, log)
    return Section("short", "In short", [paragraph(each) for each in sentences])


def _baselines(results):
    """Returns the comparison with the baselines, if there is one."""
    if "linear_accuracy" not in results:
        return []
    count, split = results["probe_test_images"], results["probe_test_split"]
    note = " ".join(probe_images_text(results)).replace("`", "")
    return [
        paragraph(f"Accuracy (95 % interval) on {count} {split} images."),
        table(baseline_rows(results), BASELINES_HEADING),
        paragraph(note, "note"),
    ]


def _map(picture, explored):
    """Returns the interactive map, if there are images for one."""
    if explored is None or picture is None:
        return []
    how = (
        "Zoom with the buttons, with two fingers, or with the wheel after a click into the map; "
        "drag to move. Click an image for its neighbours, or an entry below to see it alone."
    )
    return [*captions(picture), paragraph(how, "note"), *map_parts(explored)]


def _doubts(explored):
    """Returns the images whose labels the neighbours contradict, where there are labels."""
    if explored is None or not explored.num_examined:
        return []
    counts = f"{explored.num_doubts:,} of {explored.num_examined:,} labels"
    text = (
        "Of the ten images most similar to an image, seven or more have one and the same other "
        f"label: this is so for {counts} that were examined. Some may be mistakes in the data, "
        "the others show what the encoder confuses; look before you change one."
    )
    shown = len(explored.doubts)
    if not shown:
        return [paragraph(text)]
    which = "All of them:" if shown == explored.num_doubts else f"The {shown} clearest:"
    return [paragraph(text), paragraph(which), album(explored.doubts)]


def _in_order(by_name):
    """Yields the pictures with what people look at first before the rest."""
    names = [name for name in _FIRST if name in by_name]
    for name in [*names, *(name for name in by_name if name not in names)]:
        yield name, by_name[name]


def _picture(picture):
    """Returns a picture as a gallery, or as the file that was drawn."""
    if not picture.strips:
        return [*captions(picture)[1:], sheet(picture.path, picture.caption)]
    scale = "<div class='scale'>least attended <i></i> most attended</div>"
    is_attention = picture.path.stem.startswith("attention")
    return [*captions(picture), scale if is_attention else "", gallery(picture.strips)]


def _classes(explored):
    """Returns how well the neighbours tell each class, where there are classes."""
    if explored is None or not len(explored.class_names):
        return []
    rows = class_rows(confusion_of_neighbours(explored), explored.class_names)
    if not rows:
        return []
    text = (
        "How often the ten nearest neighbours of an image in the map vote for its class, the "
        "hardest class first. Chance is the share of the class among the images."
    )
    return [paragraph(text), table(rows, CLASS_HEADING)]


def _curves(picture, log, config, results):
    """Returns one chart for each kind of measurement."""
    chance = chance_levels(config, results)
    charts = [
        chart(panel_svg(each, log, chance), each.title, each.good) for each in curve_panels(log)
    ]
    caption = captions(picture) if picture else []
    return [*caption, f"<div class='charts'>{''.join(charts)}</div>"]


def _sheets(folder):
    """Returns some of the sheets of the training, from the first to the last."""
    sheets = sorted(folder.glob("*.png"))
    steps = max(1, min(MAX_SHEETS, len(sheets)) - 1)
    chosen = sorted({round(i * (len(sheets) - 1) / steps) for i in range(steps + 1) if sheets})
    figures = [sheet(sheets[i], sheets[i].stem.replace("_", " ")) for i in chosen]
    text = "Clean, corrupted and restored views. Good: each picture is sharper than the one before."
    return [paragraph(text), *figures] if figures else []


def _settings(config: RunConfig):
    """Returns all settings, after those that differ from the preset and the recipe."""
    default = shown_settings(flat(started_from(config)))
    mine = shown_settings(flat(config))
    changed = [(name, value, default[name]) for name, value in mine.items()
               if value != default[name]]  # fmt: skip
    name = f"{config.preset}, recipe {config.recipe}"
    parts = [table(changed, ("changed", "here", f"in the preset {name}"))]
    every = table(mine.items())
    return [*(parts if changed else []), f"<details><summary>All</summary>{every}</details>"]
