"""Which photos lie on their side, by the rotation head of an exported model."""

import os
import pathlib

import numpy as np
from PIL import Image

from sit_keras.config.files import written_whole
from sit_keras.data.reading import read_image
from sit_keras.serving.head_quality import check_head
from sit_keras.serving.local import ask


def orient(
    folder: str | os.PathLike,
    model: str | os.PathLike,
    confidence: float = 0.5,
    write: str | os.PathLike | None = None,
    value_range: tuple[float, float] | None = None,
) -> list[dict]:
    """Finds the images that do not stand upright.

    Args:
        folder: the images.
        model: an exported version, `exports/NAME/1`, with the signature `predict_rotation`.
        confidence: float. The least probability that counts.
        write: a new folder outside of `folder` for upright copies (RGB, without metadata) of those
            found, or None. Where Pillow cannot write the kind of the file, the copy is a PNG and
            has `.png` behind its name.
        value_range: as for `sit_keras.data.load_source`.

    Returns:
        A dict for each image found: `path`, `turn` (degrees clockwise that set it upright) and
        `confidence`, surest first.

    Raises:
        ValueError: if there is no image or no such model, its rotation head only guesses, or copies
            would lie among the originals.
    """
    folder = pathlib.Path(folder).expanduser()
    if write is not None:
        write = pathlib.Path(write).expanduser()
        _refuse_the_originals(folder.resolve(), write.resolve())
    check_head(model, "predict_rotation")
    found = []
    for answer in ask(model, "predict_rotation", folder, value_range=value_range):
        turn, sure = (
            int(answer.outputs["upright_angle"]),
            float(answer.outputs["probabilities"].max()),
        )
        if turn and sure >= confidence:
            found.append({"path": str(answer.path), "turn": turn, "confidence": sure})
            if write is not None:
                _refuse_bands(answer.image.shape[-1])
                _write_upright(
                    answer.path, turn, write / answer.path.relative_to(folder), value_range
                )
    return sorted(found, key=lambda each: -each["confidence"])


def _refuse_bands(channels):
    if channels not in (1, 3):
        raise ValueError(
            f"Upright copies are written as RGB, and this model takes images of {channels} "
            "channels: leave --write out, and turn the files by the table."
        )


def _refuse_the_originals(folder, write):
    if write.is_relative_to(folder) or folder.is_relative_to(write):
        raise ValueError(f"{write} and {folder} lie within each other: give a folder aside.")
    if write.is_dir() and any(write.iterdir()):
        raise ValueError(f"{write} is not empty: give a new folder for the copies.")


def _write_upright(path, turn, copy, value_range):
    """Writes an image as RGB, turned clockwise by so many degrees."""
    if Image.registered_extensions().get(copy.suffix.lower()) not in Image.SAVE:
        copy = copy.with_name(f"{copy.name}.png")
    copy.parent.mkdir(parents=True, exist_ok=True)
    whole = read_image(path, value_range=value_range)  # it was reduced to be looked at
    with written_whole(copy) as aside:
        Image.fromarray(np.rot90(whole, -turn // 90)).save(aside, quality=95)
