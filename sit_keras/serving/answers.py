"""What a server has answered about many images: printed, kept, and counted."""

import collections
import pathlib
import sys
import typing

import numpy as np

from sit_keras.serving.replies import (
    Outputs,
    ServerError,
    Unreachable,
    WrongServer,
    printable,
    shown,
)
from sit_keras.serving.uploads import image_bytes

# How an image can fail, in the order of the summary.
_UNREADABLE, _REFUSED, _UNANSWERED = "cannot be read", "refused by the server", "without an answer"


class Answers:
    """Takes replies one after the other.

    Args:
        files: the images, in order. Each is known by its place among them.
        print_each: bool. Print each answer as it arrives.
        value_range: as for `sit_keras.data.load_source`.
    """

    def __init__(
        self,
        files: list[pathlib.Path],
        print_each: bool,
        value_range: tuple[float, float] | None = None,
    ):
        if not files:
            raise ValueError("There is no image to send.")
        self._files, self._print_each, self._value_range = files, print_each, value_range
        self._replies: list[tuple[list[int], Outputs]] = []
        self._failures: dict[int, str] = {}
        self._known: set[int] = set()  # the places of images that are answered or have failed
        self._error: ServerError | None = None
        # A counter in a line that is written over, unless answers go to the same terminal.
        self._counts = sys.stderr.isatty() and not (print_each and sys.stdout.isatty())

    @property
    def failed(self) -> int:
        """How many images have no answer."""
        return len(self._failures) + len(self._rest())

    def readable(self) -> typing.Iterator[tuple[int, bytes]]:
        """Yields the place and the content of each image that can be read; names the others."""
        for place, path in enumerate(self._files):
            try:
                data = image_bytes(path, self._value_range)
            except OSError as error:
                reason = error.strerror or str(error).removeprefix(f"{path}: ")
                self._fail(place, _UNREADABLE, reason)
            else:
                yield place, data

    def add(self, places: list[int], reply: Outputs | ServerError) -> None:
        """Prints and keeps the reply to one request, or names the images that have none."""
        if not isinstance(reply, ServerError):
            reply = self._of_the_same_model(reply)
        if isinstance(reply, ServerError):
            self._error = reply
            if not isinstance(reply, (Unreachable, WrongServer)):  # then the rest has none either
                for place in places:
                    self._fail(place, _UNANSWERED, reply)
        else:
            reply = _without_wrong_numbers(reply)
            self._replies.append((places, reply))
            self._known.update(places)
            for row, place in enumerate(places):
                self._take(reply, row, place)
            sys.stdout.flush()
        self._count()

    def _of_the_same_model(self, reply):
        _, first = self._replies[0] if self._replies else (None, reply)
        for name in ("embedding", "top_classes"):
            if name in reply and reply[name].shape[1:] != first[name].shape[1:]:
                return ServerError(
                    f"{name!r} has {reply[name].shape[1]} columns and had {first[name].shape[1]} "
                    "before: the server changed the model; --version holds one."
                )
        return reply

    def _take(self, reply, row, place):
        if not reply["ok"][row]:
            self._fail(place, _REFUSED, shown(reply["error"][row]))
        elif self._print_each:
            print_line(f"{printable(self._files[place])}: {_answer(reply, row)}")

    def complain(self, text: str) -> None:
        """Prints a line to the standard error."""
        print_line(f"{self._cleared()}{text}", sys.stderr)

    def complain_about_the_rest(self) -> None:
        """Says from which image on nothing was asked, because the server is gone or by Ctrl-C."""
        rest = [printable(path) for path in self._rest()]
        if rest:
            several = f"{len(rest)} images, from {rest[0]} to {rest[-1]}"
            self.complain(f"No answer for {several if len(rest) > 1 else rest[0]}.")
        elif self._counts:
            print(self._cleared(), end="", file=sys.stderr)

    def summary(self) -> str:
        """Returns a sentence about what failed."""
        rest, total = len(self._rest()), len(self._files)
        counts = collections.Counter(self._failures.values())
        counts[_UNANSWERED] += rest
        kinds = (_UNREADABLE, _REFUSED, _UNANSWERED)
        text = ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])
        answered = f"{total - self.failed} of {total} images answered; {self.failed} failed"
        return f"{answered}: {text}{f': {self._error}' if rest else '.'}"

    def outputs(self) -> Outputs:
        """Returns all answers as arrays, with the `paths`; empty if there is none."""
        if not self._replies:
            return {}
        paths = [str(self._files[place]) for places, _ in self._replies for place in places]
        return {"paths": np.array(paths), **joined([reply for _, reply in self._replies])}

    def _rest(self):
        """The images about which nothing is known."""
        return [path for place, path in enumerate(self._files) if place not in self._known]

    def _fail(self, place, kind, reason):
        self._failures[place] = kind
        self._known.add(place)
        what = kind if kind == _UNREADABLE else f"is {kind}"
        self.complain(f"{printable(self._files[place])} {what}: {printable(reason)}")

    def _count(self):
        if self._counts:
            text = f"\r{len(self._known)} of {len(self._files)} images"
            print(text, end="", file=sys.stderr, flush=True)

    def _cleared(self):
        return "\r\033[K" if self._counts else ""


def joined(parts: list[Outputs]) -> Outputs:
    """Returns the rows of all parts, of the outputs that all of them have in one shape."""
    rows = {name: [part[name] for part in parts if name in part] for name in parts[0]}
    return {
        name: np.concatenate(arrays)
        for name, arrays in rows.items()
        if len(arrays) == len(parts) and len({x.shape[1:] for x in arrays}) == 1
    }


def print_neighbours(outputs: Outputs, count: int) -> None:
    """Prints for each image those whose embeddings are most alike.

    Args:
        outputs: with `paths`, `embedding` and `ok`.
        count: int. How many of them.
    """
    rows = np.flatnonzero(outputs["ok"])
    paths, embedding = outputs["paths"][rows], outputs["embedding"][rows]
    for i, path in enumerate(paths):
        alike = embedding @ embedding[i]
        nearest = [j for j in np.argsort(-alike) if j != i][:count]
        text = ", ".join(f"{printable(paths[j])} ({alike[j]:.3f})" for j in nearest)
        print_line(f"{printable(path)}: {text or '(no other image)'}")


def print_line(text: str, stream: typing.TextIO | None = None) -> None:
    """Prints a line; what the terminal has no letters for is written as numbers."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _without_wrong_numbers(reply: Outputs) -> Outputs:
    """Marks images whose numbers are not finite as refused."""
    name = "embedding" if "embedding" in reply else "top_probabilities"
    wrong = reply["ok"] & ~np.isfinite(reply[name]).all(axis=1)
    error = np.where(wrong, f"it sent numbers in {name!r} that are not finite", reply["error"])
    return {**reply, "ok": reply["ok"] & ~wrong, "error": error}


def _answer(outputs: Outputs, row: int) -> str:
    """One image's answer as text."""
    if "top_classes" in outputs:
        shares = outputs["top_probabilities"][row]
        pairs = zip(outputs["top_classes"][row], shares, strict=True)
        return ", ".join(f"{printable(name)} {share:.1%}" for name, share in pairs)
    numbers = outputs["embedding"][row]
    return f"[{', '.join(f'{x:.3f}' for x in numbers[:6])}, ...] of {len(numbers)}"
