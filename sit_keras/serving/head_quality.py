"""How good the pretext heads of an export are, by its contract; those that guess are refused."""

import os
import pathlib
import sys

from sit_keras.config.files import read_json
from sit_keras.runs.findings import percent
from sit_keras.runs.task_reports import RECONSTRUCTION_LEARNED, ROTATION_LEARNED, ROTATION_RELIABLE
from sit_keras.serving.verify import CONTRACT

_TRAIN_ON = (
    "Train longer (the end of `sit-keras train` and its report say what to change), export the run "
    "again, and give that version."
)


def check_head(version: str | os.PathLike, signature: str) -> None:
    """Prints to standard error how good a head was at the end of its training.

    Args:
        version: the folder of an exported version, `exports/NAME/1`.
        signature: str. `predict_rotation` or `reconstruct`, which is not there if the version has
            no such head; this is for others to find.

    Raises:
        ValueError: if the head hardly does better than guessing, or the contract is broken.
    """
    path = pathlib.Path(version) / "assets" / CONTRACT
    if not path.is_file():
        return
    contract = read_json(path, "the contract of an export", mend="Export the run again.")
    if signature not in contract.get("signatures", {}):
        return
    describe = {"predict_rotation": _rotation, "reconstruct": _reconstruction}[signature]
    print(describe(version, contract.get("heads", {})), file=sys.stderr)


def _rotation(version, heads) -> str:
    if "accuracy" not in heads.get("rotation", {}):
        return _unknown(version, "rotation")
    head = heads["rotation"]
    measured = (
        f"The rotation head of {version} was right on {percent(head['accuracy'])} of {head['of']} "
        f"views, and chance is {percent(head['chance'])}"
    )
    if head["accuracy"] <= ROTATION_LEARNED:
        raise ValueError(f"{measured}: it can hardly tell which images stand upright. {_TRAIN_ON}")
    if head["accuracy"] < ROTATION_RELIABLE:
        return f"{measured}: many of its answers are wrong. Look at each before you use it."
    return f"{measured}."


def _reconstruction(version, heads) -> str:
    head = heads.get("reconstruction", {})
    if "flat_error" not in head:
        return _unknown(version, "reconstruction")
    measured = (
        f"The reconstruction head of {version} had an error of {head['error']:.2f} on {head['of']} "
        f"views, and a picture of one colour has {head['flat_error']:.2f}"
    )
    if head["error"] >= RECONSTRUCTION_LEARNED * head["flat_error"]:
        raise ValueError(f"{measured}: its errors say nothing about an image. {_TRAIN_ON}")
    return f"{measured}."


def _unknown(version, task) -> str:
    return (
        f"{version} does not say how good its {task} head is, so its answers may be guesses: "
        "export a finished run with this version of SiT-Keras to know."
    )
