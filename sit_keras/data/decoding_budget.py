"""How much memory the images that are decoded at the same time may take together."""

import collections
import contextlib
import threading
import typing

# Decoding may take this many bytes, unless all pixels of the file are asked for.
MOST_MEMORY = 960 * 2**20


class DecodingBudget:
    """Bytes that threads share; whoever finds too few left waits for the others.

    They are served in the order in which they ask, so a large image is not passed over for ever.

    Args:
        limit: int. Bytes that are handed out at the same time. Who asks for more than that waits
            until nobody else has any.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._in_use = 0
        self._queue: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def share(self, cost: int) -> typing.Iterator[None]:
        """Waits for `cost` bytes, and gives them back at the end of the `with` block."""
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                self._changed.wait_for(lambda: self._queue[0] is turn and self._fits(cost))
                self._in_use += cost
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._in_use -= cost
                self._changed.notify_all()

    def _fits(self, cost):
        return self._in_use == 0 or self._in_use + cost <= self._limit


# For all images that this process decodes: while a folder is checked, and in the pipelines.
BUDGET = DecodingBudget(512 * 2**20)
