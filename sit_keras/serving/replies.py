"""What comes back from a server: outputs that are checked, or an error that says what to do."""

import typing

import numpy as np

EMBED, CLASSIFY = "serving_bytes", "classify_bytes"
# More than the largest batch gives, so that an endless reply ends.
MAX_REPLY_BYTES = 64 << 20
NO_SIGNATURE = (
    "the model has no such signature (--classes needs an export with a classifier, and files need "
    "one for images of 1 or 3 channels)."
)
NO_LABEL = (
    "check --label: no version has it (models.config of the server says which labels there are)."
)

# Of each output that the client reads: numpy's letters for its type, its axes, and what it is.
_READ = {
    "ok": ("b", 1, "true or false for each image"),
    "error": ("U", 1, "a text for each image"),
    "embedding": ("fiu", 2, "a row of numbers for each image"),
    "top_classes": ("U", 2, "a row of names for each image"),
    "top_probabilities": ("fiu", 2, "a number for each of the top classes"),
}
_OF_SIGNATURE = {
    EMBED: ("ok", "error", "embedding"),
    CLASSIFY: ("ok", "error", "top_classes", "top_probabilities"),
}

Outputs = dict[str, np.ndarray]


class ServerError(OSError):
    """A request has no usable answer. Its text names the server and says what to do."""


class RequestRefused(ServerError):
    """The server refuses what the request contains; its images one by one may pass."""


class Unreachable(ServerError):
    """The server does not answer. It may come back; until then there is no answer to anything."""


class Busy(ServerError):
    """The server says that it cannot answer now.

    Args:
        text: str.
        wait: float or None. In how many seconds it wants to be asked again.
    """

    def __init__(self, text: str, wait: float | None = None):
        super().__init__(text)
        self.wait = wait


class WrongServer(ServerError):
    """Every request to this address would fail in the same way."""


def misses_signature(text: str) -> bool:
    """Whether TF Serving's words say that the model lacks the signature."""
    return "ignature" in text and "not found" in text


def misses_label(text: str) -> bool:
    """Whether TF Serving's words say that no version has the label that was asked for."""
    return "version label" in text


def printable(text: typing.Any) -> str:
    """Returns a text without what could disturb a terminal or a line: control characters, and what
    stands in a file name for bytes that are no text."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def shown(text: typing.Any, most: int = 300) -> str:
    """Returns the beginning of a text from outside, for one line."""
    text = " ".join(str(text).split())
    return printable(text if len(text) <= most else f"{text[:most]}...")


def checked_outputs(server: typing.Any, signature: str, outputs: typing.Any, rows: int) -> Outputs:
    """Makes arrays of what a server calls its outputs.

    Args:
        server: for the message.
        signature: str. The one that was asked; what the client reads of it must be there.
        outputs: expected as a dict, of arrays or nested lists by name.
        rows: int. The number of images that were sent.

    Returns:
        Arrays by name, of as many rows, without those that the client reads of another signature.

    Raises:
        ServerError: if it is anything else.
    """
    if not isinstance(outputs, dict):
        raise _unfit(server, f"outputs that are a {type(outputs).__name__}", "an object")
    arrays = {}
    for name, value in outputs.items():
        try:
            arrays[name] = np.array(value)
        except (ValueError, TypeError, OverflowError, RecursionError):
            expected = "rows of one length"
            raise _unfit(server, f"{shown(name)!r} that is no array", expected) from None
        if arrays[name].shape[:1] != (rows,):
            found = f"{shown(name)!r} of shape {arrays[name].shape}"
            raise _unfit(server, found, f"one row for each of {rows} images")
    for name in _OF_SIGNATURE.get(signature, ()):
        kinds, axes, expected = _READ[name]
        if name not in arrays:
            there = ", ".join(shown(each, 30) for each in arrays) or "none"
            raise _unfit(server, f"the outputs {there}", f"{name!r} among them")
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != axes:
            raise _unfit(server, f"{name!r} as {array.dtype} of shape {array.shape}", expected)
    if signature == CLASSIFY and arrays["top_classes"].shape != arrays["top_probabilities"].shape:
        shape = arrays["top_probabilities"].shape
        raise _unfit(server, f"probabilities of shape {shape}", _READ["top_probabilities"][2])
    foreign = set(_READ) - set(_OF_SIGNATURE.get(signature, _READ))
    return {name: array for name, array in arrays.items() if name not in foreign}


def _unfit(server, found, expected):
    return ServerError(
        f"{server} sent {found}, expected {expected}: is it an export of SiT-Keras that is "
        "served there?"
    )
