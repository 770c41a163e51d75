"""Sends images to a served model, by REST or gRPC. By REST it needs NumPy and Pillow alone."""

import functools
import os
import pathlib
import typing

import numpy as np

from sit_keras.config.files import written_whole
from sit_keras.serving.address import parse_address
from sit_keras.serving.answers import Answers, joined, print_line, print_neighbours
from sit_keras.serving.by_grpc import predict_grpc
from sit_keras.serving.by_rest import predict_rest
from sit_keras.serving.replies import CLASSIFY, EMBED, Outputs, printable
from sit_keras.serving.retries import replies_to, with_retries
from sit_keras.serving.uploads import batches, list_files

_LONGEST_TIMEOUT = 86_400.0


class SomeFailed(OSError):
    """Some images have no answer.

    Args:
        text: str. How many, and why.
        outputs: the answers to the others, as `ask_server` returns them; empty if there is none.
    """

    def __init__(self, text: str, outputs: Outputs):
        super().__init__(text)
        self.outputs = outputs


def predict(
    server: str | None,
    model: str,
    signature: str,
    files: typing.Iterable[bytes],
    grpc: bool = False,
) -> Outputs:
    """Sends any number of files, in batches; as `predict_rest` or `predict_grpc`.

    Raises:
        ValueError: if there is no file.
        OSError: if one request fails.
    """
    ask = predict_grpc if grpc else predict_rest
    parts = [
        ask(server, model, signature, [data for _, data in batch])
        for batch in batches(enumerate(files))
    ]
    if not parts:
        raise ValueError("There is no image to send.")
    return joined(parts)


def ask_server(
    images: typing.Sequence[str | os.PathLike],
    server: str | None = None,
    model: str = "sit",
    version: int | None = None,
    label: str | None = None,
    grpc: bool = False,
    classes: bool = False,
    neighbours: int | None = None,
    output: str | os.PathLike | None = None,
    value_range: tuple[float, float] | None = None,
    timeout: float = 60.0,
    retries: int = 3,
) -> Outputs:
    """Sends images to a server, and prints its answers as they arrive.

    An image that cannot be read, that the server refuses, or whose request fails, is named on the
    standard error with the reason; the answers to all others are printed and saved.

    Args:
        images: files, or folders of images at any depth.
        server: str or None. `HOST:PORT`, or `https://HOST:PORT/PREFIX`; None is localhost, 8501 for
            REST and 8500 for gRPC.
        model: str. The name by which the server knows the model.
        version: int or None. Of the model; None is what the server takes, the newest as a rule.
        label: str or None. The server's own name of a version, such as `stable`, in its place.
        grpc: bool. Ask by gRPC instead of REST.
        classes: bool. Print classes instead of the first numbers of the embeddings.
        neighbours: int or None. Print so many of the images most alike instead.
        output: a `.npz` file for the embeddings, or None. Names of files that are no text are in it
            as Python has them; `open` and `os.fsencode` take them.
        value_range: as for `sit_keras.data.load_source`.
        timeout: float. The seconds until the reply to one request must be complete.
        retries: int. How many times to ask again a server that is busy or cannot be reached.

    Returns:
        Arrays by the name of the output, one row for each image of an answered request, and
        their `paths`. `ok` is false where the server refused an image.

    Raises:
        ValueError: if there is no image, an argument is out of range, or more than one of classes,
            neighbours and output is given.
        OSError: if the output cannot be written; `SomeFailed` if an image has no answer.
        MissingPackage: if gRPC is asked for and its packages are not installed.
    """
    if bool(classes) + (neighbours is not None) + (output is not None) > 1:
        raise ValueError("classes, neighbours and output exclude each other: give one of them.")
    parse_address(server, grpc)
    _check_numbers(version, neighbours, timeout, retries)
    if label is not None and (not label or version is not None):
        raise ValueError(
            f"The label is {label!r} and the version {version}: give one of them, and not empty."
        )
    if not model:
        raise ValueError("The name of the model is empty: expected the one the server knows it by.")
    if output is not None:
        _check_output(pathlib.Path(output))
    ask = functools.partial(
        predict_grpc if grpc else predict_rest,
        server,
        model,
        CLASSIFY if classes else EMBED,
        version=version,
        label=label,
        timeout=timeout,
    )
    answers = Answers(list_files(images), neighbours is None, value_range)
    asks = with_retries(ask, retries, answers.complain)
    try:
        for places, reply in replies_to(batches(answers.readable()), asks):
            answers.add(places, reply)
    finally:  # also after Ctrl-C, and where nobody reads on
        outputs = answers.outputs()
        if outputs and output is not None:
            _save(pathlib.Path(output), outputs)
        answers.complain_about_the_rest()
        if outputs and neighbours is not None:
            print_neighbours(outputs, neighbours)
    if answers.failed:
        raise SomeFailed(answers.summary(), outputs)
    return outputs


def _check_numbers(version, neighbours, timeout, retries):
    if version is not None and not 0 <= version < 1 << 63:
        raise ValueError(f"The version is {version}: expected the number of a version, such as 1.")
    if neighbours is not None and neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}: expected at least 1.")
    if not 0 < timeout <= _LONGEST_TIMEOUT:
        raise ValueError(f"The timeout is {timeout:g} s: expected more than 0 s, a day at most.")
    if retries < 0:
        raise ValueError(f"retries is {retries}: expected 0 or more.")


def _check_output(path):
    """Nobody wants to learn this when all images have been answered."""
    folder = path.parent
    reason = None
    if not folder.is_dir():
        reason = f"there is no folder {printable(folder)}"
    elif path.exists() and not path.is_file():
        reason = "it is no file"
    elif not os.access(folder, os.W_OK):
        reason = f"the folder {printable(folder)} is not yours to write to"
    if reason is not None:
        raise OSError(f"{printable(path)} cannot be written: {reason}.")


def _save(path, outputs):
    names = ("paths", "embedding", "ok", "error")
    with written_whole(path) as aside, open(aside, "wb") as file:
        np.savez(file, **{name: outputs[name] for name in names})
    print_line(f"Embeddings: {printable(path)}")
