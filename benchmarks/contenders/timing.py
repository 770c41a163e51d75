"""How contenders take their time."""

import statistics
import time
import typing

WARM_UP = 2


def repeated(
    work: typing.Callable[[], typing.Any], times: int, **figures: float
) -> typing.Callable[[], dict[str, float]]:
    """Returns a function that does the work some times and gives the median of its milliseconds.

    The work is done a few times before, to be compiled and to warm the caches.

    Args:
        work: what is measured; it returns when it has ended.
        times: int. How often a round does it.
        **figures: other figures, which stay as they are.
    """

    def measure():
        seconds = []
        for _ in range(times):
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
        return {"ms": 1e3 * statistics.median(seconds), **figures}

    for _ in range(WARM_UP):
        work()
    return measure
