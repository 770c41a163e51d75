"""The evaluations of a run, as sections of its report."""

import pathlib
import typing

import numpy as np

from sit_keras.evaluation.diagnostics import MEASURES, measure_text
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.cached_step import fingerprint
from sit_keras.runs.files import read_json
from sit_keras.runs.results import LARGEST_CLASS, accuracy_text, percent
from sit_keras.runs.shown_names import shown_dataset
from sit_keras.workflows.class_table import CLASS_HEADING, class_rows
from sit_keras.workflows.page import Section, sheet, table

EVALUATION_HEADING = ("", "accuracy (95 % interval)", "balanced", "macro F1")
_PICTURES = {
    "confusion": "What test images are taken for by the linear evaluation. Good: a dark diagonal.",
    "map": "The test images by their two tokens, laid out by t-SNE. Good: a place for each class.",
}
_OTHERS = ("balanced_accuracy", "macro_f1")


def evaluations(run: pathlib.Path) -> typing.Iterator[Section]:
    """Yields the evaluations of a run's present encoder; those of other weights are left out.

    Raises:
        ValueError: if a file that should hold one does not.
    """
    for number, path in enumerate(sorted(run.glob("evaluation/*/results.json"))):
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
        parts = [table(_evaluation_rows(results), EVALUATION_HEADING), *_class_results(results)]
        parts += [sheet(each, _PICTURES.get(each.stem, each.stem))
                  for each in sorted(path.parent.glob("*.png"))]  # fmt: skip
        title = f"Evaluation: {_evaluation_title(results)}"
        yield Section(f"evaluation-{number}", title, parts)


def _class_results(results):
    """Returns the linear evaluation class by class."""
    linear = results.get("linear", {})
    names = list(linear.get("per_class", {}))
    confusion = np.array(linear.get("confusion", []), int)
    if not names or len(names) != len(confusion):  # a class without test images has no name there
        return []
    rows = class_rows(confusion, names)
    return ["<h3>Linear evaluation, class by class</h3>", table(rows, CLASS_HEADING)]


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
