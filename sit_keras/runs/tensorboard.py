"""Pictures for TensorBoard."""

import os
import pathlib

import tensorflow as tf


class PictureLog:
    """Shows PNG files in TensorBoard.

    Args:
        folder: of the log, below the one that `tensorboard --logdir` is given.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = str(folder)
        self._writer = None  # no file before there is a picture

    def add(self, path: pathlib.Path, name: str, step: int, caption: str | None = None) -> None:
        """Adds a PNG file under a name, as of a step."""
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._folder)
        image = tf.io.decode_png(path.read_bytes(), channels=3)  # (H, W, 3)
        with self._writer.as_default(step=step):
            tf.summary.image(name, image[None], description=caption)
        self._writer.flush()
