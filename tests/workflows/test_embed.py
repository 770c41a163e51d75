"""An index of images: one row for each file, nothing computed twice, nothing lost when stopped."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from index_case import altered, write_photos

import sit_keras
from sit_keras.data.images import ImageSet
from sit_keras.evaluation.features import FrozenFeatures, select_features
from sit_keras.evaluation.index import is_index, read_index
from sit_keras.workflows import embed as workflow
from sit_keras.workflows import embedding
from sit_keras.workflows.index_shards import IndexShards

ENCODER = "sit_digits"
pytestmark = pytest.mark.usefixtures("one_embedder")


def embed(source, output, **settings):
    return sit_keras.embed(str(source), ENCODER, output, **settings)


def vectors_of_evaluation(paths, features="tokens"):
    images = ImageSet(np.array([str(path) for path in paths]), np.zeros(len(paths), int))
    found = FrozenFeatures(sit_keras.SiTBackbone.from_preset(ENCODER)).of(images)
    return select_features(found, features)


@pytest.fixture
def computed(monkeypatch):
    """The images that the encoder is called with."""
    counts = []
    call = embedding.Embedder.__call__

    def counting(self, images):
        counts.append(len(images))
        return call(self, images)

    monkeypatch.setattr(embedding.Embedder, "__call__", counting)
    return counts


def test_every_file_has_a_row_and_equal_files_are_computed_once(tmp_path, computed, capsys):
    paths = write_photos(tmp_path / "photos", 6)
    paths.insert(1, altered(paths[0], "content"))
    broken = tmp_path / "photos" / "broken.jpg"
    broken.write_bytes(paths[2].read_bytes()[:900])
    gone = tmp_path / "photos" / "gone.png"
    gone.symlink_to(tmp_path / "nowhere.png")
    index = embed(tmp_path / "photos", tmp_path / "i.npz")
    assert computed == [7]  # six pictures and the broken one
    rows = {os.path.basename(path): i for i, path in enumerate(index.paths)}
    assert sorted(rows) == sorted(["broken.jpg", *(path.name for path in paths)])
    good = [rows[path.name] for path in paths]
    assert index.ok[good].all() and not index.ok[rows["broken.jpg"]]
    assert (index.embeddings[rows["broken.jpg"]] == 0).all()
    same = index.embeddings[[rows["00.png"], rows["00-content.png"]]]
    assert np.array_equal(*same)
    assert np.allclose(index.embeddings[good], vectors_of_evaluation(paths), atol=1e-5)
    said = capsys.readouterr()
    assert "1 of 8 images cannot be read:" in said.out and "broken.jpg: " in said.out
    assert "7 images of 128 features (tokens), 1 of them copies" in said.out
    assert "1 broken link (gone.png)" in said.err
    assert not (tmp_path / "i.npz.unfinished").exists()


def test_the_features_are_those_that_are_asked_for(tmp_path):
    paths = write_photos(tmp_path / "photos", 2)
    index = embed(f"folder:{tmp_path / 'photos'}", tmp_path / "i.csv", features="patch_tokens")
    assert np.allclose(index.embeddings, vectors_of_evaluation(paths, "patch_tokens"), atol=1e-5)
    assert read_index(tmp_path / "i.csv").embeddings.tolist() == index.embeddings.tolist()


class StoppedInTheThirdShard(workflow.Progress):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.shown = []

    def advance(self, count):
        self.shown.append(count)
        if len(self.shown) == 3:
            raise KeyboardInterrupt


@pytest.fixture
def interrupt(monkeypatch):
    """Embeds in shards of four images up to the third one."""
    monkeypatch.setattr(workflow, "SHARD_ROWS", 4)

    def call(*arguments):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(workflow, "Progress", StoppedInTheThirdShard)
            embed(*arguments)

    return call


@pytest.fixture(params=["i.npz", "archive/"])
def output(request, tmp_path):
    if request.param.startswith("archive"):
        pytest.importorskip("pyarrow")
    return f"{tmp_path}/{request.param}"


def columns(index):
    return [index.paths.tolist(), index.contents.tolist(), index.errors.tolist(),
            index.embeddings.tolist(), index.signatures.tolist()]  # fmt: skip


def test_an_interrupted_command_goes_on_with_equal_vectors(output, tmp_path, interrupt, capsys):
    paths = write_photos(tmp_path / "photos", 14)
    paths[1].write_bytes(paths[2].read_bytes()[:700])  # one that cannot be read
    paths[9].write_bytes(paths[3].read_bytes())  # a copy of an image of an earlier shard
    whole = embed(tmp_path / "photos", tmp_path / "whole.npz")
    interrupt(tmp_path / "photos", output)
    with pytest.raises(ValueError, match="No index"):
        read_index(output)
    capsys.readouterr()
    index = embed(tmp_path / "photos", output)
    assert "Goes on: 7 images were embedded before" in capsys.readouterr().out
    assert columns(index) == columns(whole) == columns(read_index(output))
    assert index.errors[1] and not index.ok[1] and (index.embeddings[1] == 0).all()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"photos", "whole.npz", os.path.basename(output.rstrip("/"))}


def test_an_archive_is_a_folder_of_parquet_files_that_are_there_when_they_are_whole(
    tmp_path, interrupt
):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_photos(tmp_path / "photos", 10)
    archive = tmp_path / "archive"
    interrupt(tmp_path / "photos", archive)
    begun = sorted(archive.glob("*.parquet"))
    assert [parquet.read_table(path).num_rows for path in begun] == [4, 4]
    with pytest.raises(ValueError, match="has no index.json. sit-keras embed was interrupted"):
        read_index(archive)
    times = [path.stat().st_mtime_ns for path in begun]
    index = embed(tmp_path / "photos", archive)
    shards = sorted(archive.glob("*.parquet"))
    assert shards[:2] == begun and [path.stat().st_mtime_ns for path in begun] == times
    rows = [row for path in shards for row in parquet.read_table(path).to_pylist()]
    assert [row["path"] for row in rows] == index.paths.tolist()
    assert [row["embedding"] for row in rows] == index.embeddings.tolist()
    assert set(rows[0]) == {"path", "content", "embedding", "signature", "ok", "error"}


def test_a_shard_that_was_damaged_is_written_again(tmp_path, interrupt, computed, capsys):
    pytest.importorskip("pyarrow")
    write_photos(tmp_path / "photos", 10)
    archive = tmp_path / "archive"
    interrupt(tmp_path / "photos", archive)
    first = min(archive.glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:500])
    computed.clear()
    index = embed(tmp_path / "photos", archive)
    assert computed == [4, 2] and len(read_index(archive)) == 10
    assert "A shard is written again: " in capsys.readouterr().out
    whole = embed(tmp_path / "photos", tmp_path / "whole.npz")
    assert columns(index) == columns(whole)


def test_an_archive_is_brought_up_to_date_and_keeps_only_its_own_shards(
    tmp_path, monkeypatch, computed
):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(workflow, "SHARD_ROWS", 4)
    paths = write_photos(tmp_path / "photos", 10)
    archive = tmp_path / "archive"
    embed(tmp_path / "photos", archive)
    paths[0].unlink()
    write_photos(tmp_path / "photos" / "more", 1, seed=9)
    computed.clear()
    after = embed(tmp_path / "photos", archive)
    assert computed == [1]
    assert len(list(archive.glob("*.parquet"))) == 3
    assert columns(after) == columns(read_index(archive))
    names = sorted(path.relative_to(tmp_path / "photos") for path in map(pathlib.Path, after.paths))
    assert [str(name) for name in names] == [*(f"{i:02}.png" for i in range(1, 10)), "more/00.png"]


def test_an_archive_stays_when_none_of_its_images_can_be_read_any_more(tmp_path):
    pytest.importorskip("pyarrow")
    paths = write_photos(tmp_path / "photos", 2)
    before = embed(tmp_path / "photos", tmp_path / "archive")
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="No image of .* is left"):
        embed(tmp_path / "photos", tmp_path / "archive")
    assert columns(read_index(tmp_path / "archive")) == columns(before)


@pytest.mark.parametrize("in_folder", [True, False])
def test_a_second_process_is_kept_out(in_folder, tmp_path):
    output = tmp_path / ("archive" if in_folder else "i.npz")
    with IndexShards(output, in_folder), pytest.raises(ValueError, match="Another process is writ"):
        with IndexShards(output, in_folder):
            pass
    assert list(tmp_path.iterdir()) == []  # nothing was embedded


def test_a_folder_of_other_files_is_not_taken_for_an_archive(tmp_path):
    pytest.importorskip("pyarrow")
    write_photos(tmp_path / "photos", 2)
    with pytest.raises(ValueError, match="photos holds no index but other files, such as 00.png"):
        embed(tmp_path / "photos", tmp_path / "photos")
    (tmp_path / "name").write_text("mine")
    with pytest.raises(ValueError, match="name is a file: give another --output"):
        embed(tmp_path / "photos", tmp_path / "name")
    assert (tmp_path / "name").read_text() == "mine"
    assert len(list((tmp_path / "photos").iterdir())) == 2


def test_folders_of_others_are_refused_and_stay_as_they_are(tmp_path):
    """A file `index.json` is no index of ours, and hidden files are somebody's files too."""
    pytest.importorskip("pyarrow")
    write_photos(tmp_path / "photos", 2)
    for name, file in (("web", "index.json"), ("project", ".git"), ("begun", "index.json")):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / file).write_text('{"name": "mine"}')
        with pytest.raises(ValueError, match="holds no index but other files"):
            embed(tmp_path / "photos", tmp_path / name)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted([file, "sub"])
    assert not is_index(tmp_path / "web")


def test_a_folder_that_fills_up_meanwhile_is_not_removed(tmp_path):
    (tmp_path / "archive").mkdir()
    with IndexShards(tmp_path / "archive", in_folder=True):
        (tmp_path / "archive" / "mine.txt").write_text("mine")
    assert (tmp_path / "archive" / "mine.txt").read_text() == "mine"


def test_unfinished_embeddings_of_another_encoder_are_not_mixed_in(output, tmp_path, interrupt):
    write_photos(tmp_path / "photos", 10)
    interrupt(tmp_path / "photos", output)
    with pytest.raises(ValueError, match="index of features=tokens, or the beginning of one: give"):
        embed(tmp_path / "photos", output, features="patch_tokens")


KILLED = """
import sys, time
from sit_keras.workflows import embed as workflow
workflow.SHARD_ROWS = 4
class Sleeping(workflow.Progress):
    count = 0
    def advance(self, count):
        self.count += 1
        time.sleep(600 if self.count == 3 else 0)
workflow.Progress = Sleeping
workflow.embed(sys.argv[1], "sit_digits", sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i.npz", "archive/"])
def test_a_killed_command_goes_on_with_equal_vectors(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workflow, "SHARD_ROWS", 4)
    write_photos(tmp_path / "photos", 14)
    output = f"{tmp_path}/{name}"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "photos"), output], cwd=ROOT
    )
    while len(list(tmp_path.glob("*/shard-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    index = embed(tmp_path / "photos", output)
    assert "Goes on: 8 images" in capsys.readouterr().out
    whole = embed(tmp_path / "photos", tmp_path / "whole.npz")
    assert columns(index) == columns(whole)


def test_an_index_is_brought_up_to_date(tmp_path, computed):
    paths = write_photos(tmp_path / "photos", 4)
    before = embed(tmp_path / "photos", tmp_path / "i.npz")
    paths[0].unlink()
    paths[1].rename(tmp_path / "photos" / "renamed.png")
    (new,) = write_photos(tmp_path / "photos" / "more", 1, seed=9)
    after = embed(tmp_path / "photos", tmp_path / "i.npz")
    assert computed == [4, 1]
    names = [os.path.basename(path) for path in after.paths]
    assert sorted(names) == ["00.png", "02.png", "03.png", "renamed.png"]
    assert np.array_equal(after.embeddings[names.index("renamed.png")], before.embeddings[1])


def test_an_index_of_another_encoder_is_not_overwritten(tmp_path):
    write_photos(tmp_path / "photos", 2)
    embed(tmp_path / "photos", tmp_path / "i.npz")
    backbone = sit_keras.SiTBackbone((16, 16, 3), 4, 24, 1, 2, 32)
    backbone.save_to_preset(tmp_path / "encoder")
    with pytest.raises(ValueError, match="holds an index of another encoder .sit_digits., or the"):
        sit_keras.embed(str(tmp_path / "photos"), tmp_path / "encoder", tmp_path / "i.npz")


def test_one_image_has_an_index_and_none_or_only_broken_ones_are_refused(tmp_path):
    write_photos(tmp_path / "one", 1)
    assert len(embed(tmp_path / "one", tmp_path / "one.npz")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No image in .*empty"):
        embed(tmp_path / "empty", tmp_path / "i.npz")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    (tmp_path / "bad" / "b.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="No image of .*bad is left. 2 of 2 images cannot"):
        embed(tmp_path / "bad", tmp_path / "i.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "empty", "one", "one.npz"]


def test_a_data_set_is_embedded_with_both_of_its_splits(tmp_path):
    index = embed("digits", tmp_path / "digits.npz")
    assert len(index) == 1797
    assert index.paths[[0, -1]].tolist() == ["digits#train/0", "digits#test/359"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere", ENCODER, "i.npz"), "No folder nowhere, and no data set of that name"),
        (("digits", "digits", "i.npz"), "digits is a preset without weights"),
        (("digits", ENCODER, "i.txt"), "follows from its ending, one of .npz, .csv, .parquet, or"),
        (("digits", "nowhere", "i.npz"), "No encoder at nowhere"),
        (("folder:", ENCODER, "i.npz"), "The name of the folder is empty"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, tuple) else "",
)
def test_what_is_wrong_is_said_before_it_begins(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        sit_keras.embed(*arguments)
    assert list(tmp_path.iterdir()) == []
