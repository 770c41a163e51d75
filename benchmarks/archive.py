"""An archive with planted broken files, by `sit-keras embed` and by the pipeline of Apache Beam.

    python -m benchmarks.archive --data_dir=DIR --photos=FOLDER --beam_python=beam/bin/python

The 10,000 test images of CIFAR-10 are written as PNG files into a temporary folder, with ten broken
files among them. Both ways embed them with the encoder `sit_cifar10_cpu`, and once more with a kill
after three shards and a second start; then the photos with the same broken files. Printed are
images a second of the whole process and by its own clock, the counts, and how far the vectors are
apart. `--beam_python` is that of an environment with Beam; without it, only `embed` runs.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow.parquet
from PIL import Image

from benchmarks import report
from sit_keras.evaluation.features import unit

ROOT = pathlib.Path(__file__).resolve().parents[1]
ENCODER = "sit_cifar10_cpu"
SHARDS_BEFORE_KILL = 3
BROKEN = 10


def write_cifar(folder: pathlib.Path, data_dir: str | None) -> None:
    """Writes the test images of CIFAR-10."""
    from sit_keras.data.sources import load_source

    folder.mkdir()
    for number, pixels in enumerate(load_source("cifar10", data_dir).test.items):
        Image.fromarray(pixels).save(folder / f"{number:05}.png")


def plant_broken(folder: pathlib.Path) -> None:
    """Adds files that are cut short, empty, text, or noise."""
    good = next(path for path in sorted(folder.rglob("*")) if path.is_file()).read_bytes()
    noise = np.random.default_rng(0).bytes(2000)
    kinds = [good[: len(good) // 2], b"", b"no picture", noise, noise[:100]]
    for number in range(BROKEN):
        ending = ("png", "jpg")[number % 2]
        content = kinds[number % len(kinds)] + bytes([number]) * (number % len(kinds) > 1)
        (folder / f"broken-{number}.{ending}").write_bytes(content)


def start(command: list[str]) -> subprocess.Popen:
    """Starts a command of this project."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip


def finished(command: list[str]) -> tuple[float, str]:
    """Runs a command to its end, and returns its seconds and what it printed."""
    begin = time.monotonic()
    process = start(command)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:]}")
    return time.monotonic() - begin, said


def kill_midway(command: list[str], output: pathlib.Path) -> int:
    """Kills a command after some shards, and returns how many are there."""
    process = start(command)
    while len(list(output.glob("shard-*"))) < SHARDS_BEFORE_KILL:
        if process.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended before it could be killed.")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return len(list(output.glob("shard-*")))


def rows_of(output: pathlib.Path) -> dict[str, list]:
    """Returns the columns of all shards, in their order."""
    tables = [pyarrow.parquet.read_table(path) for path in sorted(output.glob("shard-*"))]
    rows = [row for table in tables for row in table.to_pylist()]
    names = ("path", "content", "embedding", "ok", "error")
    return {name: [row[name] for row in rows] for name in names}


def compare(name: str, rows: dict, others: dict) -> None:
    """Prints whether texts are equal, and the largest difference of the vectors."""
    same = all(rows[key] == others[key] for key in ("path", "content", "ok", "error"))
    vectors = (unit(np.array(each["embedding"], np.float32)) for each in (rows, others))
    difference = np.abs(np.subtract(*vectors)).max()
    print(f"  {name}: paths, contents and errors equal: {same}; vectors to {difference:.1e}")


def trial(name: str, images: pathlib.Path, commands: dict, with_kill: bool) -> None:
    """Embeds a folder in all ways and prints the figures.

    Args:
        name: str. What the images are.
        images: their folder.
        commands: by name, a function from the images and an output to the words of a command.
        with_kill: bool. Do it once more, with a kill.
    """
    plant_broken(images)
    print(f"\n{name}")
    found = {}
    for way, command in commands.items():
        output = images.parent / f"{images.name}-{way}"
        seconds, said = finished(command(images, output))
        found[way] = rows = rows_of(output)
        count, bad = len(rows["ok"]), rows["ok"].count(False)
        own = re.findall(r"([\d.,]+) images/s", said)[-1]
        print(
            f"  {way}: {count:,} files, {bad} of them unreadable, {seconds:.0f} s, "
            f"{count / seconds:,.0f} images/s with start, {own} by its own clock"
        )
        if with_kill:
            again = images.parent / f"{output.name}-killed"
            kept = kill_midway(command(images, again), again)
            seconds, _ = finished(command(images, again))
            print(f"  {way}: killed with {kept} shards, started again for {seconds:.0f} s")
            compare(f"{way}, killed and not", rows_of(again), rows)
    for way in list(found)[1:]:
        compare(f"{way} and {next(iter(found))}", found[way], next(iter(found.values())))


def main() -> None:
    """Makes the images and the model, and runs the trials."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", help="where TFDS has prepared CIFAR-10")
    parser.add_argument("--photos", help="a folder of photos, for a second trial")
    parser.add_argument("--beam_python", help="the Python of an environment with Beam")
    options = parser.parse_args()
    print(report.machine()["in_words"])
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        package = [sys.executable, "-m", "sit_keras"]
        commands = {
            "embed": lambda images, output: [
                *package, "embed", str(images), f"--encoder={ENCODER}", f"--output={output}/",
            ]
        }  # fmt: skip
        if options.beam_python:
            finished([*package, "export", f"--run={ENCODER}", f"--output={scratch / 'model'}"])
            commands["beam"] = lambda images, output: [
                options.beam_python, "examples/beam/embed_archive.py", f"--images={images}",
                f"--model={scratch / 'model' / '1'}", f"--output={output}",
            ]  # fmt: skip
        write_cifar(scratch / "cifar", options.data_dir)
        trial("10,000 images of CIFAR-10", scratch / "cifar", commands, with_kill=True)
        if options.photos:
            shutil.copytree(options.photos, scratch / "photos", copy_function=shutil.copyfile)
            os.chmod(scratch / "photos", 0o755)
            trial("photos", scratch / "photos", commands, with_kill=False)


if __name__ == "__main__":
    main()
