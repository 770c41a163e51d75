"""The pipeline of Apache Beam gives the rows of `sit-keras embed`, also after it was killed."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from index_case import write_photos
from PIL import Image

import sit_keras
from sit_keras.evaluation.features import unit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("apache_beam") is None,
        reason='apache_beam is not installed: pip install -e ".[beam]", see examples/beam',
    ),
]
FOLDER = ROOT / "examples" / "beam"
SMALL_SHARDS = """
import sys, time
import embed_archive
embed_archive.SHARD_FILES = 4
if sys.argv.pop(1) == "stopped":
    process, names = embed_archive.Write.process, []
    def stopping(self, named):
        names.append(named[0])
        time.sleep(600 if len(names) == 3 else 0)
        process(self, named)
    embed_archive.Write.process = stopping
embed_archive.main()
"""


def start(case, how):
    flags = [f"--{name}={case / name}" for name in ("images", "model", "output")]
    flags[1] += "/1"
    paths = os.pathsep.join([str(ROOT), str(FOLDER)])
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_SHARDS, how, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Fifteen files, of which two cannot be read, the model, and the rows of `embed`."""
    folder = tmp_path_factory.mktemp("beam")
    paths = write_photos(folder / "images", 11)
    (folder / "images" / "broken.png").write_bytes(paths[0].read_bytes()[:500])
    (folder / "images" / "empty.jpg").write_bytes(b"")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(paths[1]).save(folder / "images" / "turned.jpg", exif=turned)
    Image.open(paths[2]).resize((900, 700)).save(folder / "images" / "large.webp")
    sit_keras.export("sit_digits", folder / "model", check=False)
    index = sit_keras.embed(str(folder / "images"), "sit_digits", folder / "index.npz")
    return folder, index


def test_a_killed_pipeline_goes_on_and_its_rows_are_those_of_embed(case):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder, index = case
    process = start(folder, "stopped")
    while len(list((folder / "output").glob("shard-*"))) < 2:
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = start(folder, "whole")
    said, _ = process.communicate()
    assert process.returncode == 0, said[-3000:]
    images, shards, unreadable = map(
        int, re.search(r"(\d+) images in (\d+) new shards, (\d+) of them unreadable", said).groups()
    )
    files = sorted((folder / "output").glob("shard-*"))
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    bad = [row for row in rows if not row["ok"]]
    assert len(files) == 4 and shards == 2 and images in (7, 8) and unreadable <= len(bad) == 2
    assert {os.path.basename(row["path"]) for row in bad} == {"broken.png", "empty.jpg"}
    assert [row["path"] for row in rows] == index.paths.tolist()
    assert [row["content"] for row in rows] == index.contents.tolist()
    assert [row["error"] for row in rows] == index.errors.tolist()
    embeddings = np.array([row["embedding"] for row in rows], np.float32)
    np.testing.assert_allclose(embeddings, unit(index.embeddings), atol=1e-6)


def test_a_missing_model_and_a_folder_of_other_images_are_refused(case, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import embed_archive

    folder, _ = case
    model, output = str(folder / "model" / "1"), str(tmp_path)
    with pytest.raises(ValueError, match="No exported model in nowhere: give a version"):
        embed_archive.missing_shards(["a.png"], "nowhere", output)
    (shard,) = embed_archive.missing_shards(["a.png"], model, output)
    (tmp_path / shard.name).write_bytes(b"")
    assert embed_archive.missing_shards(["a.png"], model, output) == []
    with pytest.raises(ValueError, match="has shards of other images or another model"):
        embed_archive.missing_shards(["b.png"], model, output)
    with pytest.raises(ValueError, match="is an image by its ending"):
        embed_archive.list_images(f"{tmp_path}/*.txt")
