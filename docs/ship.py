"""Puts the encoder of a run into the package, with its card: `sit_keras/weights/NAME`.

    python -m docs.ship sit_digits runs/digits-digits-seed0 --result=digits --licence='...'

The run must be kept (`python -m docs.keep`), since the card says how it was made.
"""

import argparse
import dataclasses
import pathlib

from docs.made import RESULTS, Made
from sit_keras.config import shipped
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.files import read_json, write_text
from sit_keras.runs.model_card import CARD


def ship(name: str, run: pathlib.Path, result: str, licence: str) -> pathlib.Path:
    """Writes the encoder of a run as `SiTBackbone.from_preset` finds it by its name.

    Args:
        name: str. Of the encoder.
        run: the folder of the run.
        result: str. The folder in `results` that it is kept in.
        licence: str. A sentence on the terms of the images.

    Returns:
        The folder.
    """
    folder = shipped.FOLDER / name
    SiTBackbone.from_preset(run).save_to_preset(folder)
    card = (run / CARD).read_text("utf-8").replace("encoder.keras", name)
    card = card.replace("setting is in `config.json`", f"setting is in `results/{result}`")
    seconds = read_json(run / "results.json", "the results of a run")["train_seconds"]
    how = dataclasses.replace(Made.read(RESULTS / result), hours=seconds / 3600).markdown()
    parts = [card, f"## How it was made\n\n{how}", f"## Licence\n\n{licence}\n"]
    write_text(folder / shipped.CARD, "\n".join(parts))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.ship", description=__doc__)
    parser.add_argument("name", help="of the encoder, for from_preset")
    parser.add_argument("run", type=pathlib.Path, help="the folder of the run")
    parser.add_argument("--result", required=True, help="the folder in results")
    parser.add_argument("--licence", required=True, help="the terms of the images and the weights")
    options = parser.parse_args()
    print(f"{options.name}: {ship(options.name, options.run, options.result, options.licence)}")


if __name__ == "__main__":
    main()
