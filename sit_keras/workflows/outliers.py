"""Images unlike those a model was trained on, by the error of its reconstruction."""

import os
import pathlib

from sit_keras.plots.image_grids import outlier_sheet
from sit_keras.serving.head_quality import check_head
from sit_keras.serving.local import ask

SHOWN = 12


def outliers(
    folder: str | os.PathLike,
    model: str | os.PathLike,
    sheet: str | os.PathLike | None = None,
    value_range: tuple[float, float] | None = None,
) -> list[dict]:
    """Ranks images by how badly a model restores them.

    Args:
        folder: the images.
        model: an exported version, `exports/NAME/1`, with the signature `reconstruct`.
        sheet: a PNG file to draw the worst of them in, or None.
        value_range: as for `sit_keras.data.load_source`.

    Returns:
        A dict for each image: `path` and `error`, the mean absolute difference of normalised
        pixels; the largest first.

    Raises:
        ValueError: if there is no image or no such model, or it restores images no better than a
            picture of one colour.
    """
    check_head(model, "reconstruct")
    ranking, worst = [], []
    for answer in ask(model, "reconstruct", folder, value_range=value_range):
        error = float(answer.outputs["reconstruction_error"])
        ranking.append({"path": str(answer.path), "error": error})
        worst.append((error, answer))
        worst = sorted(worst, key=lambda pair: -pair[0])[:SHOWN]
    if sheet is not None:
        pathlib.Path(sheet).parent.mkdir(parents=True, exist_ok=True)
        outlier_sheet(
            [answer.image for _, answer in worst],
            [answer.outputs["reconstruction"] for _, answer in worst],
            [f"{error:.3f}\n{answer.path.name}" for error, answer in worst],
            sheet,
        )
    return sorted(ranking, key=lambda each: -each["error"])
