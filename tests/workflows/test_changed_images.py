"""Runs that are stopped and continued: with other images, or in a folder of an odd name."""

import dataclasses
import os

import keras
import numpy as np
import pytest
from PIL import Image
from run_case import TINY, rows

from sit_keras.config.execution import Execution
from sit_keras.runs.results import finished_results
from sit_keras.training.guards import Stopped
from sit_keras.workflows.pretrain import pretrain

pytestmark = pytest.mark.slow


class StopAfterTwoEpochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise Stopped


def add(folder, numbers):
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")


@pytest.fixture
def photos(tmp_path):
    """A folder of 40 images, and the settings of a run of three epochs of four steps on them."""
    add(tmp_path / "photos", range(20))
    dataset = f"folder:{tmp_path / 'photos'}"
    settings = {"batch_size": 8, "holdout": 0.2, "steps_per_epoch": None}
    return tmp_path / "photos", dataclasses.replace(TINY, dataset=dataset, **settings)


def train_two_epochs(config, run_dir):
    with pytest.raises(Stopped):
        pretrain(config, run_dir, callbacks=[StopAfterTwoEpochs()])


def test_half_the_images_removed_never_finish_a_run(photos, tmp_path, capsys):
    """Two steps an epoch instead of four: the eight steps taken would be more than all six."""
    folder, config = photos
    train_two_epochs(config, tmp_path / "run")
    for path in list(folder.rglob("1*.png")):
        path.unlink()
    with pytest.raises(ValueError, match=r"so far: 20 removed \(cat/10.png, cat/11.png, cat/12"):
        pretrain(config, tmp_path / "run")
    results = pretrain(config, tmp_path / "run", execution=Execution(on_changed_images="go_on"))
    assert "Its schedule and its 4 steps an epoch stay" in capsys.readouterr().out
    assert results["steps"] == 12
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["0", "1", "2"]


def test_images_that_were_replaced_renamed_or_given_another_class_are_named(photos, tmp_path):
    folder, config = photos
    train_two_epochs(config, tmp_path / "run")
    replaced = folder / "cat" / "00.png"
    times = replaced.stat().st_atime_ns, replaced.stat().st_mtime_ns
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(replaced)
    os.utime(replaced, ns=times)
    (folder / "cat" / "01.png").rename(folder / "dog" / "50.png")
    (folder / "cat" / "02.png").rename(folder / "cat" / "51.png")
    with pytest.raises(ValueError) as refusal:
        pretrain(config, tmp_path / "run")
    for part in (
        "1 replaced by another content (cat/00.png)",
        "1 renamed (cat/02.png -> cat/51.png)",
        "1 given another class (cat/01.png -> dog/50.png)",
    ):
        assert part in str(refusal.value)


def test_a_run_refuses_to_write_among_its_images(photos):
    folder, config = photos
    for run_dir in (folder, folder / "cat"):
        with pytest.raises(ValueError, match="is a folder of the images"):
            pretrain(config, run_dir)
    assert sorted(path.name for path in folder.iterdir()) == ["cat", "dog"]


@pytest.mark.parametrize("name", [b"exp?", b"[x] {a,b}*", b"caf\xe9"])
def test_the_name_of_a_run_folder_is_no_pattern(photos, tmp_path, name):
    _, config = photos
    (tmp_path / "exp1" / "checkpoints").mkdir(parents=True)
    (tmp_path / "exp1" / "checkpoints" / "ckpt-1.npz").write_bytes(b"a neighbour's")
    run_dir = tmp_path / os.fsdecode(name)
    train_two_epochs(config, run_dir)
    assert pretrain(config, run_dir) == finished_results(run_dir)
    assert len(rows(run_dir)) == 3
    assert list((run_dir / "tensorboard").rglob("events*"))
    assert (tmp_path / "exp1" / "checkpoints" / "ckpt-1.npz").read_bytes() == b"a neighbour's"
