"""Embeds an archive of images with an exported model, as a pipeline of Apache Beam.

    python examples/beam/embed_archive.py --images=my/photos --model=exports/photos/1 --output=out

The unit of work is a shard of 1,024 files, which becomes a Parquet file that has its name when it
is whole: `path`, `content` (the SHA-256 of the file), `embedding`, `ok` and `error`. The same
command goes on with the shards that are missing. Flags that are not listed go to Beam.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import tempfile
import time
import typing
import uuid

import apache_beam as beam
import numpy as np
import pyarrow as arrow
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from pyarrow import parquet

from sit_keras.data.finding import printable
from sit_keras.data.folder import find_images
from sit_keras.data.image_formats import EXTENSIONS
from sit_keras.data.pipeline import read_for_evaluation
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.workflows.embedding import unreadable

# Beam's own default, DirectRunner, first tries to download another one.
RUNNER = "FnApiRunner"
SHARD_FILES = 1024
BATCH = 64
COUNTERS = "archive"


class Shard(typing.NamedTuple):
    """The name of a Parquet file, and the images that it is about."""

    name: str
    paths: tuple[str, ...]


@dataclasses.dataclass
class Model:
    """A loaded export, and how its images are read: from a path, () string, to (H, W, 3) uint8."""

    saved: typing.Any  # all of it, since a signature alone would lose the weights
    read: typing.Callable


class ExportedModel(ModelHandler[Shard, tuple[str, arrow.Table], Model]):
    """Embeds shards with a version that `sit-keras export` has written.

    Files are read as `sit-keras embed` reads them, so that the embeddings are the same.

    Args:
        version: str. The folder of the version, on any file system of Beam and TensorFlow.
    """

    def __init__(self, version: str):
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._version = version

    def load_model(self):
        with FileSystems.open(FileSystems.join(self._version, "assets", "contract.json")) as file:
            contract = json.load(file)["preprocessing"]
        settings = {name: contract[name] for name in ("crop", "fit", "mean", "std")}
        preprocessing = ImagePreprocessing(contract["image_shape"], **settings)

        @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
        def read(path):
            return read_for_evaluation(path, preprocessing, None)

        return Model(tf.saved_model.load(self._version), read)

    def run_inference(self, batch, model, inference_args=None):
        for name, paths in batch:
            parts = [_table(paths[i : i + BATCH], model) for i in range(0, len(paths), BATCH)]
            yield name, arrow.concat_tables(parts)


def _table(paths, model: Model) -> arrow.Table:
    """Returns the rows of some files."""
    embed = model.saved.signatures["serving_default"]
    width = embed.structured_outputs["embedding"].shape[-1]
    embeddings = np.zeros((len(paths), width), np.float32)
    files = [_read(path, model.read) for path in paths]
    contents, images, errors = map(list, zip(*files, strict=True))
    of_one_size = collections.defaultdict(list)
    for row, image in enumerate(images):
        if image is not None:
            of_one_size[image.shape].append(row)
    for rows in of_one_size.values():
        pixels = np.stack([images[row] for row in rows]).astype(np.float32) / 255
        answer = embed(images=tf.constant(pixels))
        embeddings[rows] = answer["embedding"]
        for row, error in zip(rows, answer["error"].numpy().tolist(), strict=True):
            errors[row] = error.decode()
    return arrow.table(
        {
            "path": [printable(path) for path in paths],
            "content": contents,
            "embedding": arrow.FixedSizeListArray.from_arrays(embeddings.ravel(), width),
            "ok": [not error for error in errors],
            "error": [printable(error) for error in errors],
        }
    )


def _read(path, read) -> tuple[str, np.ndarray | None, str]:
    """Returns the SHA-256 of a file, and its pixels or why it has none."""
    try:
        with FileSystems.open(path) as file:
            data = file.read()
    except OSError as error:
        return "", None, f"{error}"
    content = hashlib.sha256(data).hexdigest()
    # The package reads files of this machine alone.
    with tempfile.NamedTemporaryFile(suffix=os.path.splitext(path)[1]) as copy:
        copy.write(data)
        copy.flush()
        try:
            return content, read(tf.constant(copy.name)).numpy(), ""
        except tf.errors.OpError as error:
            return content, None, unreadable(copy.name) or error.message


class Write(beam.DoFn):
    """Writes shards, and counts what is in them."""

    def __init__(self, output: str):
        self._output = output
        self._counters = {}
        for name in ("shards", "images", "unreadable"):
            self._counters[name] = Metrics.counter(COUNTERS, name)

    def process(self, named):
        name, table = named
        aside = FileSystems.join(self._output, f".writing-{uuid.uuid4().hex}")
        with FileSystems.create(aside) as file:
            parquet.write_table(table, file)
        FileSystems.rename([aside], [FileSystems.join(self._output, name)])
        unread = table.num_rows - table["ok"].combine_chunks().true_count
        for counter, count in (("shards", 1), ("images", table.num_rows), ("unreadable", unread)):
            self._counters[counter].inc(count)


def list_images(images: str) -> list[str]:
    """Returns the images of a folder here, as `sit-keras embed` lists them, or of a pattern."""
    if "*" not in images:
        return [str(path) for path in find_images(images)]
    (match,) = FileSystems.match([images])
    paths = sorted(each.path for each in match.metadata_list)
    paths = [path for path in paths if path.lower().endswith(EXTENSIONS)]
    if not paths:
        raise ValueError(f"No file of {images} is an image by its ending.")
    return paths


def missing_shards(paths: list[str], model: str, output: str) -> list[Shard]:
    """Returns the shards that are not in the folder yet.

    Raises:
        ValueError: if there is no such model, or the folder has shards of other images or models.
    """
    checksums = FileSystems.join(model, "assets.extra", "checksums.json")
    if not FileSystems.exists(checksums):
        raise ValueError(f"No exported model in {model}: give a version, such as exports/NAME/1.")
    with FileSystems.open(checksums) as file:
        of_model = hashlib.sha256(file.read())
    shards = []
    for first in range(0, len(paths), SHARD_FILES):
        digest, some = of_model.copy(), tuple(paths[first : first + SHARD_FILES])
        digest.update("\0".join(some).encode("utf-8", "surrogateescape"))
        name = f"shard-{len(shards):05}-{digest.hexdigest()[:12]}.parquet"
        shards.append(Shard(name, some))
    (match,) = FileSystems.match([FileSystems.join(output, "shard-*")])
    there = {os.path.basename(each.path) for each in match.metadata_list}
    if there - {shard.name for shard in shards}:
        raise ValueError(f"{output} has shards of other images or another model: give another one.")
    return [shard for shard in shards if shard.name not in there]


def run(images: str, model: str, output: str, options: list[str]) -> dict[str, int]:
    """Embeds what is missing, and returns how many shards, images and unreadable files it were."""
    paths = list_images(images)
    if not FileSystems.exists(output):
        FileSystems.mkdirs(output)
    shards = missing_shards(paths, model, output)
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    (
        pipeline
        | beam.Create(shards)
        | beam.Reshuffle()  # so that workers share them
        | RunInference(ExportedModel(model))
        | beam.ParDo(Write(output))
    )
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(COUNTERS))["counters"]
    counts = {each.key.metric.name: each.result for each in found}
    return {name: counts.get(name, 0) for name in ("shards", "images", "unreadable")}


def main() -> None:
    """Reads the flags, and prints the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True, help="a folder, or a pattern: gs://b/photos/**")
    parser.add_argument("--model", required=True, help="a version: exports/NAME/1")
    parser.add_argument("--output", required=True, help="the folder of the Parquet files")
    parser.add_argument("--runner", default=RUNNER, help="FlinkRunner, SparkRunner and so on")
    flags, options = parser.parse_known_args()
    begin = time.monotonic()
    try:
        counts = run(
            flags.images, flags.model, flags.output, [f"--runner={flags.runner}", *options]
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f"embed_archive.py: {error}") from error
    speed = counts["images"] / (time.monotonic() - begin)
    print(
        f"{counts['images']:,} images in {counts['shards']:,} new shards, {counts['unreadable']:,} "
        f"of them unreadable, {speed:,.1f} images/s."
    )


if __name__ == "__main__":
    main()
