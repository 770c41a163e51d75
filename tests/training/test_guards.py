"""Runs that meet non-finite numbers, and a disk without room."""

import dataclasses
import json
import os
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from run_case import TINY, rows, same_weights

from sit_keras.config.execution import Execution
from sit_keras.config.files import UNFINISHED
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.folder import write_settings
from sit_keras.training import guards
from sit_keras.training.guards import NonFiniteLoss
from sit_keras.training.pretrainer import SiTPretrainer
from sit_keras.workflows.pretrain import draw_batch, pretrain

pytestmark = pytest.mark.slow


@pytest.fixture
def one_bad_batch(monkeypatch):
    """The reconstruction of step 5 is NaN. Gives the corrupted views of that step, once it ran."""
    make, seen = SiTPretrainer.make_views, []

    def with_a_nan(self, data, step, validation=False):
        views = make(self, data, step, validation)
        if validation:
            return views
        is_bad = tf.equal(step, 5)
        tf.cond(
            is_bad,
            lambda: tf.py_function(lambda x: seen.append(x.numpy()), [views["corrupted"]], []),
            lambda: tf.no_op(),
        )
        return {**views, "clean": tf.where(is_bad, np.nan * views["clean"], views["clean"])}

    monkeypatch.setattr(SiTPretrainer, "make_views", with_a_nan)
    return seen


def record(run_dir):
    return [json.loads(line) for line in (run_dir / "not_finite.jsonl").read_text().splitlines()]


def test_a_non_finite_step_stops_the_run_and_is_written_down(one_bad_batch, tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"In step 5 .*: reconstruction\..*epoch 1.*draw_batch"):
        pretrain(TINY, tmp_path / "run")
    assert record(tmp_path / "run") == [{"step": 5, "seed": 0, "not_finite": ["reconstruction"]}]
    made_again = draw_batch(TINY, 5)
    np.testing.assert_allclose(one_bad_batch[0], made_again["corrupted"], atol=5e-5)
    assert np.abs(one_bad_batch[0] - draw_batch(TINY, 6)["corrupted"]).max() > 0.1


def test_a_non_finite_step_is_skipped_where_that_is_asked_for(one_bad_batch, tmp_path):
    """Where a run had stopped before, too."""
    with pytest.raises(NonFiniteLoss):
        pretrain(TINY, tmp_path / "run")
    pretrain(TINY, tmp_path / "run", execution=Execution(on_nan="skip"))
    log = rows(tmp_path / "run")
    assert [row["skipped_steps"] for row in log] == ["0", "1", "0"]
    assert all(np.isfinite(float(value)) for row in log for value in row.values())
    assert all(
        np.isfinite(w).all() for w in SiTBackbone.from_preset(tmp_path / "run").get_weights()
    )
    assert len(record(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    ("steps", "message"), [(12, "In step 9 .*: contrastive"), (4, "In every step of epoch 1")]
)
def test_skipping_ends_after_too_many_non_finite_steps(tmp_path, steps, message):
    """Similarities over this temperature are infinite in every step."""
    hopeless = dataclasses.replace(TINY, temperature=1e-39, steps_per_epoch=steps)
    with pytest.raises(NonFiniteLoss, match=message):
        pretrain(hopeless, tmp_path / "run", execution=Execution(on_nan="skip"))
    assert len(record(tmp_path / "run")) == min(steps, guards.MAX_SKIPPED_IN_A_ROW)


def test_noresume_refuses_the_folder_of_a_run(tmp_path):
    write_settings(tmp_path, TINY)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="holds a run, and --noresume asks for a new one"):
        pretrain(TINY, tmp_path, execution=Execution(resume=False))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes, where the right to mount one is given."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path]).returncode:
        pytest.skip("no right to mount a small file system here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


class FillDisk(guards.Position):
    """Leaves no room on the disk from step 5 to step 10."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        filler = FillDisk.folder / "filler"
        if self.step == 5:
            with pytest.raises(OSError, match="No space"):
                filler.write_bytes(b"x" * 2**22)
        if self.step == 10:
            filler.unlink()


def test_a_run_goes_on_while_the_disk_is_full(small_disk, tmp_path_factory, monkeypatch, caplog):
    """Epoch 2 finds no room, epoch 3 does; nothing that was trained is lost."""
    whole = tmp_path_factory.mktemp("whole") / "run"
    pretrain(TINY, whole)
    monkeypatch.setattr(FillDisk, "folder", small_disk, raising=False)
    monkeypatch.setattr(guards, "Position", FillDisk)
    pretrain(TINY, small_disk / "run", execution=Execution(on_full_disk="go_on"))
    assert "No space left on the disk: SaveState wrote nothing; going on." in caplog.text
    saved = sorted(os.listdir(small_disk / "run" / "checkpoints"))
    assert saved == ["ckpt-12.npz", "ckpt-4.npz"]
    assert same_weights(whole, small_disk / "run")
    assert rows(small_disk / "run")[-1] == rows(whole)[-1]


def test_the_last_state_is_never_lost(small_disk, monkeypatch):
    """The disk is full to the end of a run that goes on: it does not call itself finished."""
    monkeypatch.setattr(FillDisk, "folder", small_disk, raising=False)
    config = dataclasses.replace(TINY, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(guards, "Position", FillDisk)
        with pytest.raises(OSError, match="No space left on the disk"):
            pretrain(config, small_disk / "run", execution=Execution(on_full_disk="go_on"))
    assert not (small_disk / "run" / "results.json").exists()
    (small_disk / "filler").unlink()
    assert pretrain(config, small_disk / "run")["steps"] == 8
    assert not list((small_disk / "run" / "checkpoints").glob(f"{UNFINISHED}*"))
    assert [row["epoch"] for row in rows(small_disk / "run")] == ["0", "1"]


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before(small_disk, monkeypatch):
    monkeypatch.setattr(FillDisk, "folder", small_disk, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(guards, "Position", FillDisk)
        with pytest.raises(OSError, match="No space left on the disk of .* same command again"):
            pretrain(TINY, small_disk / "run")
    saved = os.listdir(small_disk / "run" / "checkpoints")
    assert saved == ["ckpt-4.npz"]
    (small_disk / "filler").unlink()
    results = pretrain(TINY, small_disk / "run")
    assert results["steps"] == 12
