"""An index of images: one row for each file, nothing computed twice, nothing lost when stopped."""

import os
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
from sit_keras.evaluation.index import read_index
from sit_keras.workflows import embed as workflow
from sit_keras.workflows import embedding

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


def test_an_interrupted_command_goes_on_with_equal_vectors(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedding, "BATCH", 4)
    paths = write_photos(tmp_path / "photos", 14)
    paths[1].write_bytes(paths[2].read_bytes()[:700])  # one that cannot be read
    whole = embed(tmp_path / "photos", tmp_path / "whole.npz")
    shown = []

    class Stopping(workflow.Progress):
        def advance(self, count):
            shown.append(count)
            if len(shown) == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(workflow, "Progress", Stopping)
        embed(tmp_path / "photos", tmp_path / "i.npz")
    assert not (tmp_path / "i.npz").exists() and shown == [4, 4]
    capsys.readouterr()
    index = embed(tmp_path / "photos", tmp_path / "i.npz")
    assert "Goes on: 8 images were embedded before" in capsys.readouterr().out
    assert np.array_equal(index.embeddings, whole.embeddings)
    assert index.errors.tolist() == whole.errors.tolist() and not index.ok[1]
    assert not (tmp_path / "i.npz.unfinished").exists()


def test_unfinished_embeddings_of_another_encoder_are_not_mixed_in(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", 3)

    class Stopping(workflow.Progress):
        def advance(self, count):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(workflow, "Progress", Stopping)
        embed(tmp_path / "photos", tmp_path / "i.npz")
    with pytest.raises(ValueError, match="i.npz.unfinished holds unfinished embeddings of other"):
        embed(tmp_path / "photos", tmp_path / "i.npz", features="patch_tokens")


KILLED = """
import sys, time
from sit_keras.workflows import embed as workflow, embedding
embedding.BATCH, workflow.SAVE_SECONDS = 4, 0.0
counts = []
class Sleeping(workflow.Progress):
    def advance(self, count):
        counts.append(count)
        time.sleep(600 if len(counts) == 2 else 0)
workflow.Progress = Sleeping
workflow.embed(sys.argv[1], "sit_digits", sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_with_equal_vectors(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedding, "BATCH", 4)
    write_photos(tmp_path / "photos", 14)
    output = tmp_path / "i.npz"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "photos"), str(output)], cwd=ROOT
    )
    while not (tmp_path / "i.npz.unfinished" / "part-000001.npz").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    index = embed(tmp_path / "photos", output)
    assert "Goes on: 8 images" in capsys.readouterr().out
    whole = embed(tmp_path / "photos", tmp_path / "whole.npz")
    assert np.array_equal(index.embeddings, whole.embeddings)


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
    with pytest.raises(ValueError, match="holds an index of another encoder .sit_digits.: give"):
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
        (("digits", ENCODER, "i.txt"), "follows from its ending, one of .npz, .csv, .parquet"),
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
