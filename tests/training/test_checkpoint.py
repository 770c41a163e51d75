import os
import shutil

import keras
import numpy as np
import pytest

from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.checkpoint import Checkpoints
from sit_keras.training.pretrainer import SiTPretrainer


def build(folder):
    backbone = SiTBackbone((8, 8, 3), 4, 8, 2, 1, 8, drop_path_rate=0.5)
    model = SiTPretrainer(backbone, projection_dim=4)
    model.compile(keras.optimizers.AdamW(1e-2, use_ema=True, ema_momentum=0.5), jit_compile=False)
    return model, Checkpoints(model, folder, model.trained_parts)


def train(model, first, steps):
    for step in range(first, first + steps):
        images = np.random.default_rng(step).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        model.train_step(images)


def equal(a, b):
    """Weights, moments, moving averages, generators and steps; not the means of an epoch."""
    trackers = {v.path for metric in a.metrics for v in metric.variables}
    assert int(a.step) == int(b.step)
    assert (a.backbone.noise.state.numpy() == b.backbone.noise.state.numpy()).all()
    for x, y in zip(*(m.variables + m.optimizer.variables for m in (a, b)), strict=True):
        if x.path not in trackers:
            np.testing.assert_array_equal(x, y, err_msg=x.path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model after four steps, and a folder with its states after two and four."""
    folder = tmp_path_factory.mktemp("trained")
    keras.utils.set_random_seed(0)
    model, checkpoints = build(folder)
    for step in (2, 4):
        train(model, step - 2, 2)
        checkpoints.save(step)
    return model, folder


@pytest.fixture
def saved(trained, tmp_path):
    """The model after four steps; `tmp_path` holds its checkpoints."""
    model, folder = trained
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return model


def build_small(folder):
    """A model of two variables, where the folder alone matters."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1))
    return model, Checkpoints(model, folder, {"network": model})


def test_a_restored_model_goes_on_to_the_last_bit(saved, tmp_path):
    """Weights, moments, moving averages, the noise of the drop paths, and the step of the views."""
    model, checkpoints = build(tmp_path)
    assert checkpoints.restore() == 4
    equal(model, saved)
    train(model, 4, 2)
    again, checkpoints = build(tmp_path)
    checkpoints.restore()
    train(again, 4, 2)
    equal(again, model)


def test_without_a_checkpoint_a_run_begins_at_step_zero(tmp_path):
    assert build_small(tmp_path)[1].restore() == 0


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def change_one_bit(file):
    content = bytearray(file.read_bytes())
    with np.load(file) as arrays:
        content[content.index(arrays["network/0001/kernel"].tobytes())] ^= 1
    file.write_bytes(content)


def swap(file):
    file.write_bytes(file.with_name("ckpt-2.npz").read_bytes())


def of_another_network(file):
    with np.load(file) as arrays:
        values = dict(arrays)
    values["network/0001/kernel"] = values["network/0001/kernel"][:-1]
    np.savez(file, **values)


@pytest.mark.parametrize("damage", [truncate, empty, change_one_bit, swap, of_another_network])
def test_a_broken_checkpoint_gives_way_to_the_one_before(saved, tmp_path, caplog, damage):
    damage(tmp_path / "ckpt-4.npz")
    model, checkpoints = build(tmp_path)
    assert checkpoints.restore() == 2
    assert "ckpt-4.npz cannot be read" in caplog.text
    train(model, 2, 2)
    equal(model, saved)
    checkpoints.save(3)  # the broken one makes room, not the one that was read
    assert kept(tmp_path) == ["ckpt-2.npz", "ckpt-3.npz"]


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_states_are_kept(tmp_path):
    _, checkpoints = build_small(tmp_path)
    for step in (2, 4, 6):
        checkpoints.save(step)
    assert kept(tmp_path) == ["ckpt-4.npz", "ckpt-6.npz"]


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    _, checkpoints = build_small(tmp_path)
    checkpoints.save(4)
    (tmp_path / ".writing-a.npz").write_bytes(b"half")
    assert checkpoints.restore() == 4
    assert kept(tmp_path) == ["ckpt-4.npz"]


def test_a_write_that_fails_leaves_the_states_before(tmp_path, monkeypatch):
    _, checkpoints = build_small(tmp_path)
    checkpoints.save(2)

    def no_space(*arguments, **settings):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(np.lib.format, "write_array", no_space)
        checkpoints.save(4)
    assert kept(tmp_path) == ["ckpt-2.npz"]
    assert checkpoints.restore() == 2


def test_a_run_whose_checkpoints_are_all_broken_never_begins_anew_in_silence(tmp_path):
    _, checkpoints = build_small(tmp_path)
    for step in (2, 4):
        empty(tmp_path / f"ckpt-{step}.npz")
    with pytest.raises(ValueError, match="None of the 2 checkpoints"):
        checkpoints.restore()


def test_checkpoints_of_an_earlier_version_are_named_and_left_alone(tmp_path):
    (tmp_path / "ckpt-4.index").touch()
    with pytest.raises(ValueError, match=r"TensorFlow's format \(ckpt-4.index\).*that version"):
        build_small(tmp_path)[1].restore()
    assert kept(tmp_path) == ["ckpt-4.index"]


@pytest.mark.parametrize("name", [b"exp?", b"[x]", b"a*b", b"{a,b}", b"new\nline", b"caf\xe9"])
def test_the_name_of_a_folder_is_no_pattern(tmp_path, name):
    """Neighbours whose names the folder's name would match as a pattern stay as they are."""
    neighbours = [tmp_path / each for each in ("exp1", "x", "a1b", "a", "b")]
    for folder in neighbours:
        folder.mkdir()
        (folder / "ckpt-1.npz").write_bytes(b"a neighbour's")
    folder = tmp_path / os.fsdecode(name)
    model, checkpoints = build_small(folder)
    for step in (2, 4, 6):
        checkpoints.save(step)
    assert kept(folder) == ["ckpt-4.npz", "ckpt-6.npz"]
    assert build_small(folder)[1].restore() == 6
    for each in neighbours:
        assert (each / "ckpt-1.npz").read_bytes() == b"a neighbour's"


def test_skipped_steps_are_counted(tmp_path):
    """A loss scale that skips a step leaves the optimizer's count behind that of the data."""
    model, checkpoints = build(tmp_path)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), np.inf))
    checkpoints = Checkpoints(model, tmp_path / "other", model.trained_parts)
    train(model, 0, 3)
    assert int(model.optimizer.iterations) < 3
    checkpoints.save(3)
    assert checkpoints.restore() == 3
