"""Writes pictures for TensorBoard."""

import os
import pathlib

import tensorflow as tf


class PictureLog:
    """Shows PNG files in TensorBoard.

    Args:
        folder: of this log, inside the folder that `tensorboard --logdir` is given.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = str(folder)
        self._writer = None  # made with the first picture, so that no empty log is written

    def add(self, path: pathlib.Path, name: str, step: int, caption: str | None = None) -> None:
        """Adds a PNG file.

        Args:
            path: pathlib.Path of the file.
            name: str. The tag under which TensorBoard shows it.
            step: int.
            caption: str or None.
        """
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._folder)
        image = tf.io.decode_png(path.read_bytes(), channels=3)  # (H, W, 3)
        with self._writer.as_default(step=step):
            tf.summary.image(name, image[None], description=caption)
        self._writer.flush()
