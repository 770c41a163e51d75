"""Runs an exported model in this process, on the images of a folder."""

import dataclasses
import os
import pathlib
import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import check_value_range
from sit_keras.config.progress import Progress
from sit_keras.data.folder import find_images
from sit_keras.data.reading import read_image


@dataclasses.dataclass(frozen=True)
class Answer:
    """The outputs of a model for one image.

    Args:
        path: pathlib.Path of the file.
        image: (H, W, C) uint8, upright by its EXIF orientation.
        outputs: arrays by the name of the output, without the batch.
    """

    path: pathlib.Path
    image: np.ndarray
    outputs: dict[str, np.ndarray]


def ask(
    version: str | os.PathLike,
    signature: str,
    folder: str | os.PathLike,
    enough: int = 512,
    value_range: tuple[float, float] | None = None,
) -> typing.Iterator[Answer]:
    """Yields the outputs of a signature for each image in a folder, and shows the progress.

    Args:
        version: the folder of an exported version, `exports/NAME/1`.
        signature: str. One that takes `images`.
        folder: the images, at any depth. Files that cannot be read are named and left out.
        enough: int. A short side in pixels that suffices, see `read_image`.
        value_range: as for `read_image`.

    Raises:
        ValueError: if there is no such export, signature or image.
    """
    check_value_range(value_range)
    if not (pathlib.Path(version) / "saved_model.pb").is_file():
        raise ValueError(f"No exported model in {version}: give a version, such as exports/NAME/1.")
    functions = tf.saved_model.load(os.fspath(version)).signatures
    if signature not in functions:
        raise ValueError(
            f"{version} has no {signature}, only {', '.join(functions)}: export the folder of a "
            "run of train.py, which has the pretext heads."
        )
    if "ok" not in functions[signature].structured_outputs:
        raise ValueError(f"{version} was exported by an earlier version: export the run again.")
    _, inputs = functions[signature].structured_input_signature
    channels = inputs["images"].shape[-1]
    files = find_images(folder)
    with Progress("images", len(files)) as progress:
        for path in files:
            try:
                image = read_image(path, enough, value_range, channels)
            except OSError as error:
                progress.say(f"Cannot be read: {error}")
            else:
                images = tf.constant(image[None], tf.float32) / 255.0
                outputs = functions[signature](images=images)
                outputs = {name: x[0].numpy() for name, x in outputs.items()}
                if outputs["ok"]:
                    yield Answer(path, image, outputs)
                else:
                    progress.say(f"{path} is refused: {outputs['error'].decode()}")
            progress.advance()
