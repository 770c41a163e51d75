"""Time and memory of opening a folder of many small images, the first time and the second.

python benchmarks/folder.py [NUMBER OF IMAGES]

Each opening is a process of its own, which imports no TensorFlow. The images lie in a temporary
folder, with a cache of its own, and are removed afterwards.
"""

import io
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

FOLDERS = 20


def make_images(root: pathlib.Path, count: int) -> None:
    """Writes images of 8 x 8 pixels as PNG."""
    random, contents = np.random.default_rng(0), []
    for _ in range(256):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    for folder in range(FOLDERS):
        (root / f"class_{folder:02d}").mkdir()
    for i in range(count):
        path = root / f"class_{i % FOLDERS:02d}" / f"image_{i:06d}.png"
        path.write_bytes(contents[i % len(contents)])


def measure(root: str) -> None:
    """Prints the seconds of an opening, the peak of memory in MiB, and that before it."""
    from sit_keras.data.folder import load_folder

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    train, _ = load_folder(root, strict=True)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(len(train), seconds, peak / 1024, before / 1024)


def main(count: int) -> None:
    """Opens the same folder twice."""
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch, "images")
        root.mkdir()
        make_images(root, count)
        time.sleep(2)  # files that were changed just now would be read again
        environment = {**os.environ, "XDG_CACHE_HOME": scratch}
        print("opening, images, seconds, peak MiB, MiB before it")
        for opening in ("first", "second"):
            command = [sys.executable, __file__, "--open", str(root)]
            output = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            ).stdout
            images, seconds, peak, before = map(float, output.splitlines()[-1].split())
            print(f"{opening:6} {images:8,.0f} {seconds:7.1f} {peak:6.0f} {before:6.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        measure(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
