"""Writes a page about a run: baselines, evaluations, pictures and settings, in one HTML file."""

import base64
import html
import os
import pathlib
import typing

from sit_keras.config.presets import started_from
from sit_keras.config.serialization import flat
from sit_keras.config.settings import RunConfig
from sit_keras.evaluation.diagnostics import MEASURES, measure_text
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.answer import answer
from sit_keras.runs.cached_step import fingerprint
from sit_keras.runs.files import read_json, write_text
from sit_keras.runs.folder import read_settings
from sit_keras.runs.log import read_log
from sit_keras.runs.results import (
    BASELINES_HEADING,
    LARGEST_CLASS,
    accuracy_text,
    baseline_rows,
    finished_results,
    percent,
    probe_images_text,
)
from sit_keras.runs.shown_names import shown_dataset, shown_settings
from sit_keras.workflows.pictures import Picture, draw_pictures

MAX_SHEETS = 6
EVALUATION_HEADING = ("", "accuracy (95 % interval)", "balanced", "macro F1")
_OTHERS = ("balanced_accuracy", "macro_f1")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
       color: #222; }
h2 { margin-top: 2em; border-bottom: 1px solid #ddd; }
figure { margin: 1.5em 0; }
figure img { max-width: 100%; border: 1px solid #eee; }
figcaption { color: #555; max-width: 70ch; }
table { border-collapse: collapse; }
td, th { padding: .2em 1em .2em 0; text-align: left; border-bottom: 1px solid #eee; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def report(
    run: str | os.PathLike,
    dataset: str | None = None,
    data_dir: str | None = None,
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
    pictures = draw_pictures(run, dataset, data_dir, download)
    for picture in pictures:
        print(f"{picture.path}: {picture.caption}")
    page = write_report(run, pictures)
    print(f"\nReport: {page}   (open it in a browser)")
    print(f"Also:   tensorboard --logdir={pathlib.Path(run) / 'tensorboard'}")
    return page


def write_report(run: str | os.PathLike, pictures: typing.Sequence[Picture]) -> pathlib.Path:
    """Writes `report.html` into a run folder; the file contains all its pictures.

    Args:
        run: a run folder.
        pictures: of `draw_pictures`.

    Returns:
        The file.
    """
    run = pathlib.Path(run)
    config, results = read_settings(run), finished_results(run) or {}
    versions = read_json(run / "config.json", "the settings of a run", ["versions"])["versions"]
    title = f"{shown_dataset(config.dataset)}, {config.preset}, seed {config.seed}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(_summary(config, run))}</p>",
        *_answer(config, results, run),
        *_baselines(results),
        *_evaluations(run),
        "<h2>Pictures</h2>",
        *(_figure(picture.path, picture.caption) for picture in pictures),
        *_sheets(run / "sheets"),
        "<h2>Settings</h2>",
        *_settings(config),
        "<h2>Versions</h2>",
        _table(versions.items()),
    ]
    path = run / "report.html"
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    write_text(path, "\n".join(["<!doctype html>", head, *parts]) + "\n")
    return path


def _summary(config, run):
    epochs = len(read_log(run / "log.csv")["epoch"])
    done = f"{epochs} of {config.epochs} epochs by {', '.join(config.tasks)}"
    return f"SiT with {config.model.num_parameters:,} parameters, pre-trained for {done}."


def _answer(config, results, run):
    """Returns what a finished run amounts to; a run of an earlier version has no sentences yet."""
    if not results:
        return []
    sentences = results.get("answer") or answer(config, results, read_log(run / "log.csv"))
    return ["<h2>In short</h2>", *(f"<p>{html.escape(each)}</p>" for each in sentences)]


def _baselines(results):
    """Returns the comparison with the baselines, if there is one."""
    if "linear_accuracy" not in results:
        return []
    count, split = results["probe_test_images"], results["probe_test_split"]
    heading = f"Accuracy (95 % interval) on {count} {split} images"
    note = html.escape(" ".join(probe_images_text(results)))
    table = _table(baseline_rows(results), (heading, *BASELINES_HEADING[1:]))
    return ["<h2>Baselines</h2>", table, f"<p>{note}</p>"]


def _evaluations(run):
    """Returns the evaluations of this encoder."""
    parts = []
    for path in sorted(run.glob("evaluation/*/results.json")):
        results = read_json(
            path,
            "the results of an evaluation",
            ["image_shape", "fingerprint", "dataset"],
            "Remove that file, or evaluate again.",
        )
        # The position embeddings, and so the fingerprint, depend on the image size.
        encoder = SiTBackbone.from_preset(run, image_shape=tuple(results["image_shape"]))
        if results["fingerprint"] != fingerprint(encoder.get_weights()):
            continue  # of an earlier epoch, or of new weights
        parts += [f"<h2>Evaluation: {html.escape(_evaluation_title(results))}</h2>"]
        parts += [_table(_evaluation_rows(results), EVALUATION_HEADING)]
        parts += [_figure(picture, picture.stem) for picture in sorted(path.parent.glob("*.png"))]
    return parts


def _evaluation_title(results):
    height, width, _ = results["image_shape"]
    return (
        f"{shown_dataset(results['dataset'])}, {height} x {width} px, "
        f"{results['train_images']:,} training and {results['test_images']:,} test images"
    )


def _evaluation_rows(results):
    """Yields the numbers of an evaluation as rows of a table."""

    def row(name, scores):
        return (name, accuracy_text(scores), *(percent(scores, each) for each in _OTHERS))

    if "largest_class" in results:
        yield row(LARGEST_CLASS, results["largest_class"])
    for name in ("linear", "augmented", "finetune"):
        if name in results:
            yield row(name, results[name])
    neighbours = results.get("knn", {})
    for k, accuracy in neighbours.items():
        if k.isdigit():
            yield row(
                f"{k} neighbours", neighbours.get("scores", {}).get(k, {"accuracy": accuracy})
            )
    for share, values in results.get("fewshot", {}).items():
        for how, name in (("finetuned", "fine-tuned"), ("linear", "then linear on all")):
            scores = values.get(f"{how}_scores", {"accuracy": values[how]})
            yield row(f"{float(share):.0%} of the labels, {name}", scores)
    measured = results.get("diagnostics", {})
    for name in MEASURES:
        if name in measured:
            yield measure_text(name, measured), f"{measured[name]:.3f}", "", ""


def _sheets(folder):
    """Returns some of the sheets of the training, from the first to the last."""
    sheets = sorted(folder.glob("*.png"))
    steps = max(1, min(MAX_SHEETS, len(sheets)) - 1)
    chosen = sorted({round(i * (len(sheets) - 1) / steps) for i in range(steps + 1) if sheets})
    figures = [_figure(sheets[i], sheets[i].stem.replace("_", " ")) for i in chosen]
    return ["<h2>The same views after several epochs</h2>", *figures] if figures else []


def _settings(config: RunConfig):
    """Returns all settings, after those that differ from the preset and the recipe."""
    default = shown_settings(flat(started_from(config)))
    mine = shown_settings(flat(config))
    changed = [(name, value, default[name]) for name, value in mine.items()
               if value != default[name]]  # fmt: skip
    name = f"{config.preset}, recipe {config.recipe}"
    parts = [_table(changed, ("changed", "here", f"in the preset {name}"))]
    every = _table(mine.items())
    return [*(parts if changed else []), f"<details><summary>All</summary>{every}</details>"]


def _table(rows, heading: typing.Sequence[str] = ()):
    lines = ["<table>"]
    if heading:
        lines.append(f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in heading)}</tr>")
    for name, *values in rows:
        cells = "".join(f"<td class='number'>{html.escape(str(value))}</td>" for value in values)
        lines.append(f"<tr><td>{html.escape(str(name))}</td>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _figure(path, caption):
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return (
        f"<figure><img alt='{html.escape(caption, quote=True)}' "
        f"src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"
    )
