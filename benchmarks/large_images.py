"""Peak memory over idle, and time, of six threads that check or read large images.

    python benchmarks/large_images.py

makes the images in a temporary folder (some minutes) and prints one row for each kind. Each is
measured in a process of its own.
"""

import concurrent.futures
import functools
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

THREADS = 6
ENOUGH = 4 * 224  # what the pipeline asks for with a network of 224 pixels


def photo(width: int, height: int) -> Image.Image:
    """A picture with some detail."""
    small = np.random.default_rng(0).integers(0, 256, (height // 50, width // 50, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


def kinds():
    """The images by the names of their files: what makes them and how they are saved."""
    wide = functools.cache(lambda: photo(12_000, 9_000))
    square = functools.cache(lambda: photo(13_000, 13_000))
    return {
        "baseline.jpg": lambda p: wide().save(p, quality=90),
        "progressive.jpg": lambda p: wide().save(p, quality=90, progressive=True),
        "progressive_444.jpg": lambda p: wide().save(
            p, quality=90, progressive=True, subsampling=0
        ),
        "flat.gif": lambda p: Image.new("P", (13_000, 13_000), 3).save(p),
        "square.png": lambda p: square().save(p, compress_level=1),
        "transparent.png": lambda p: Image.new("RGBA", (13_000, 13_000), (9, 9, 9, 99)).save(p),
        "grey16.png": lambda p: Image.fromarray(
            np.tile(np.arange(13_000, dtype=np.uint16) * 5, (13_000, 1))
        ).save(p, compress_level=1),
        "lzw.tif": lambda p: photo(9_000, 9_000).save(p, compression="tiff_lzw"),
        "large.webp": lambda p: photo(7_500, 7_500).save(p, quality=80, method=0),
        "large.avif": lambda p: photo(7_000, 7_000).save(p, quality=60, speed=10),
    }


def peak() -> int:
    """The largest memory of this process so far in bytes, of Linux; `rusage` has its parent's."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def measure(task: str, paths: list[str]) -> None:
    """Checks or reads these files in threads, and prints the memory, the time and what failed."""
    from sit_keras.data.reading import check_image, read_image

    work = {"check": check_image, "read": lambda path: read_image(path, ENOUGH).shape}[task]

    def answer(path):
        try:
            return str(work(path))
        except OSError as error:
            return str(error)

    idle, start = peak(), time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        answers = set(pool.map(answer, paths))
    seconds = time.perf_counter() - start
    print(json.dumps([peak() - idle, seconds, sorted(answers)]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, save in kinds().items():
            files.append(pathlib.Path(folder) / name)
            save(files[-1])
        sets = {file.name: [file] * THREADS for file in files} | {"a mix of all": files}
        print(f"{'six at a time':20} {'task':6} {'MiB over idle':>13} {'seconds':>8}")
        for name, paths in sets.items():
            for task in ("check", "read"):
                command = [sys.executable, __file__, task, *map(str, paths)]
                result = subprocess.run(command, capture_output=True, text=True, check=True)
                size, seconds, answers = json.loads(result.stdout)
                print(
                    f"{name:20} {task:6} {size / 2**20:13.0f} {seconds:8.1f}  {answers}", flush=True
                )
                if result.stderr:
                    print(result.stderr)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], sys.argv[2:])
    else:
        main()
