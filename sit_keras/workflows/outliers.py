"""Images unlike those a model was trained on, by the error of its reconstruction.

python -m sit_keras.outliers my/photos --model=exports/NAME/1 --sheet=outliers.png
"""

import argparse
import os
import pathlib
import sys

from sit_keras.plots.image_grids import outlier_sheet
from sit_keras.serving.local import ask

SHOWN = 12


def outliers(
    folder: str | os.PathLike, version: str | os.PathLike, sheet: str | os.PathLike | None = None
) -> list[dict]:
    """Ranks images by how badly a model restores them.

    Args:
        folder: the images.
        version: an exported version with the signature `reconstruct`.
        sheet: a PNG file to draw the worst of them in, or None.

    Returns:
        A dict for each image: `path` and `error`, the mean absolute difference of normalised
        pixels; the largest first.

    Raises:
        ValueError: if there is no image or no such model.
    """
    ranking, worst = [], []
    for answer in ask(version, "reconstruct", folder):
        error = float(answer.outputs["error"])
        ranking.append({"path": str(answer.path), "error": error})
        worst.append((error, answer))
        worst = sorted(worst, key=lambda pair: -pair[0])[:SHOWN]
    if sheet is not None:
        outlier_sheet(
            [answer.image for _, answer in worst],
            [answer.outputs["reconstruction"] for _, answer in worst],
            [f"{error:.3f}\n{answer.path.name}" for error, answer in worst],
            sheet,
        )
    return sorted(ranking, key=lambda each: -each["error"])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m sit_keras.outliers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", help="images, at any depth")
    parser.add_argument("--model", required=True, help="an exported version, exports/NAME/1")
    parser.add_argument("--sheet", help=f"PNG file for the {SHOWN} worst, with what was restored")
    options = parser.parse_args(argv)
    if options.sheet:
        pathlib.Path(options.sheet).parent.mkdir(parents=True, exist_ok=True)
    for each in outliers(options.folder, options.model, options.sheet):
        print(f"{each['error']:.4f}  {each['path']}")
    if options.sheet:
        print(f"Sheet: {options.sheet}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"sit_keras.outliers: {error}")
