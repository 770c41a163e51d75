"""The results of a run and of its evaluations: how they are kept, and how they are shown."""

import pathlib
import typing

import filelock

from sit_keras.runs.files import read_json, write_json

# The features that are compared, and what people read for them. A run has those that it needs.
KINDS = {
    "trained": "this encoder",
    "initial": "the encoder it started from",
    "untrained": "the same network, untrained",
    "pixels": "raw pixels",
    "components": "principal components of the pixels",
}
LARGEST_CLASS = "always the largest class"
BASELINES_HEADING = ("", "linear probe", "balanced", "nearest neighbours", "balanced")


def finished_results(run_dir: pathlib.Path) -> dict | None:
    """Returns the results of a finished run, or None if the run is not finished.

    Raises:
        ValueError: if there are results that no finished run leaves.
    """
    path = run_dir / "results.json"
    if not path.exists():
        return None
    return read_json(
        path,
        "the results of a finished run",
        needs=("steps", "train_seconds", "losses"),
        mend="Remove that file and give the command again: the run goes on from its last "
        "checkpoint, and nothing else is lost.",
    )


def record_results(folder: pathlib.Path, header: dict, values: dict) -> dict:
    """Adds results to the `results.json` of an evaluation, which others may write as well.

    Results that are there of another header, so of another encoder or other images, are kept in a
    file beside it.

    Args:
        folder: of the evaluation.
        header: plain values that all results in the file have in common.
        values: results by their names.

    Returns:
        What the file holds now.

    Raises:
        ValueError: if the file is not one that was written here.
    """
    path = folder / "results.json"
    with filelock.FileLock(folder / ".results.lock"):
        earlier = _read_evaluation(path) if path.exists() else {}
        if any(earlier.get(name) != value for name, value in header.items()):
            if earlier:
                kept = _free_name(folder)
                path.rename(kept)
                print(f"{path} was of another encoder or other images, and is now {kept.name}.")
            earlier = {}
        results = {**earlier, **header, **values}
        write_json(path, results)
    return results


def _read_evaluation(path):
    return read_json(
        path,
        "the results of an evaluation",
        ["fingerprint"],
        "Remove that file and evaluate again, or give another --output.",
    )


def _free_name(folder):
    number = 1
    while (folder / f"results-{number}.json").exists():
        number += 1
    return folder / f"results-{number}.json"


def accuracy_text(scores: dict, digits: int = 1) -> str:
    """Returns an accuracy with its interval, where there is one.

    Args:
        scores: as of `sit_keras.evaluation.scores.score`, or an `accuracy` alone.
        digits: int. Of the accuracy in percent, after the point.
    """
    text = f"{scores['accuracy']:.{digits}%}"
    if "accuracy_interval" in scores:
        low, high = (100 * end for end in scores["accuracy_interval"])
        text += f" ({low:.1f} to {high:.1f})"
    return text


def percent(scores: dict, name: str) -> str:
    """Returns one of the scores in percent, or nothing where it is not known."""
    return f"{scores[name]:.1%}" if name in scores else ""


def kinds_of(results: dict) -> dict[str, str]:
    """Returns those of `KINDS` that a run has compared; `results` as below."""
    return {kind: name for kind, name in KINDS.items() if kind in results["linear_accuracy"]}


def baseline_rows(results: dict) -> list[tuple[str, ...]]:
    """Returns the comparison of a run with its baselines, under `BASELINES_HEADING`.

    Args:
        results: as in the `results.json` of a run, with `linear_accuracy`.
    """
    rows = []
    for kind, name in kinds_of(results).items():
        row = [name]
        for probe in ("linear", "knn"):
            # A run of an earlier version has the accuracies alone.
            accuracy = {"accuracy": results[f"{probe}_accuracy"][kind]}
            scores = {**results.get(f"{probe}_scores", {}).get(kind, {}), **accuracy}
            row += [accuracy_text(scores), percent(scores, "balanced_accuracy")]
        rows.append(tuple(row))
    if "largest_class" in results:
        largest = results["largest_class"]
        cells = accuracy_text(largest), percent(largest, "balanced_accuracy")
        rows.append((LARGEST_CLASS, *cells, *cells))
    return rows


def probe_images_text(results: dict) -> list[str]:
    """Returns sentences about the images of that comparison, and those that `evaluate` uses.

    Args:
        results: as in the `results.json` of a run, with `linear_accuracy`.
    """
    used, total = results["probe_train_images"], results.get("labelled_images")
    if used == total:
        return [f"Both learned from all {total:,} labelled training images, as `evaluate` does."]
    lines = [f"Both learned from {used:,} labelled training images, without those held out."]
    if total is None:
        return lines
    if results["probe_test_split"] == "test":
        how = f"learns from all {total:,} labelled training images"
    else:
        how = f"divides all {total:,} labelled images anew, a fifth of them to test on"
    return [*lines, f"`evaluate` {how}, so its figures may differ."]


def aligned(rows: typing.Sequence[typing.Sequence[str]]) -> str:
    """Returns rows of texts as a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        cells = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([f"  {name:<{widths[0]}}", *cells]))
    return "\n".join(lines)
