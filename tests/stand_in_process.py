"""Starts serving_stand_in.py in a process of its own, for tests and benchmarks."""

import contextlib
import pathlib
import subprocess
import sys


@contextlib.contextmanager
def stand_in(config, folder):
    """A server of the versions in a folder, until the end of a with block.

    Args:
        config: the path of a models.config.
        folder: the folder of the versions.

    Yields:
        The process, and its addresses for gRPC and REST.
    """
    with subprocess.Popen(
        [sys.executable, "serving_stand_in.py", config, folder],
        cwd=pathlib.Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            said = process.stdout.readline().split()
            if said[:1] != ["serving"]:
                raise OSError(f"The stand-in of the server did not start for {folder}.")
            yield process, *(f"127.0.0.1:{port}" for port in said[1:])
        finally:
            process.kill()
