"""Writes numbers and pictures for TensorBoard."""

import os
import pathlib

import tensorflow as tf


class BoardLog:
    """Shows numbers and PNG files in TensorBoard.

    Args:
        folder: of this log, inside the folder that `tensorboard --logdir` is given.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = os.fsencode(folder)  # a name need not be text
        self._writer = None  # made when something is written, so that there is no empty log

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Adds a number under the tag `name`."""
        with self._writing(step):
            tf.summary.scalar(name, value)

    def add_picture(
        self, path: pathlib.Path, name: str, step: int, caption: str | None = None
    ) -> None:
        """Adds a PNG file.

        Args:
            path: pathlib.Path of the file.
            name: str. The tag under which TensorBoard shows it.
            step: int.
            caption: str or None.
        """
        image = tf.io.decode_png(path.read_bytes(), channels=3)  # (H, W, 3)
        with self._writing(step):
            tf.summary.image(name, image[None], description=caption)
        self.flush()

    def flush(self) -> None:
        """Writes what was added to the disk."""
        if self._writer is not None:
            self._writer.flush()

    def _writing(self, step):
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._folder)
        return self._writer.as_default(step=step)
