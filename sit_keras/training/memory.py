"""Keeps a process of many threads from scattering its memory. Standard library only."""

import ctypes
import os

_M_ARENA_MAX = -8  # of glibc's malloc.h


def limit_arenas() -> None:
    """Lets glibc keep one pool of memory per core, not eight.

    tf.data starts new threads each epoch, each of which may be given a pool of its own; what the
    pools hold but do not use makes the process grow for thousands of steps. Does nothing where
    there is no glibc, or where MALLOC_ARENA_MAX is set.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if libc and hasattr(libc, "mallopt") and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_M_ARENA_MAX, os.cpu_count() or 1)
