"""The files of a run on JAX, which need neither JAX nor Keras."""

import importlib.util

import numpy as np
import pytest
from conftest import ROOT

from sit_keras.config.presets import run_config

SPEC = importlib.util.spec_from_file_location(
    "jax_files", ROOT / "examples" / "jax" / "jax_files.py"
)
CONFIG = run_config("digits", holdout=0.0)
SIZES = (2, 1, 0)


@pytest.fixture(scope="module")
def files():
    module = importlib.util.module_from_spec(SPEC)
    SPEC.loader.exec_module(module)
    return module


@pytest.fixture
def folder(files, tmp_path):
    """A run folder with states after 2, 4 and 6 steps."""
    folder = files.RunFolder(tmp_path / "run", CONFIG, 7, {"jax": "1.0"})
    for step in (2, 4, 6):
        folder.save(step, state(step))
    return folder


def state(step):
    return [np.float32(step), np.full((2, 3), step, np.uint32)], [np.arange(step)], []


def names(folder):
    return sorted(path.name for path in folder.states.iterdir())


def equal(a, b):
    for x, y in zip(a, b, strict=True):
        for one, other in zip(x, y, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def test_the_last_two_states_are_kept_and_the_newest_one_is_read(folder):
    assert names(folder) == ["00000004.npz", "00000006.npz"]
    step, arrays = folder.restore(SIZES)
    assert step == 6
    equal(arrays, state(6))


@pytest.mark.parametrize("damage", ["cut", "empty", "bit"])
def test_a_damaged_state_is_left_out_and_replaced(folder, damage, capsys):
    newest = folder.states / "00000006.npz"
    content = newest.read_bytes()
    inside = content.index(state(6)[0][1].tobytes())
    flipped = content[:inside] + bytes([content[inside] ^ 1]) + content[inside + 1 :]
    newest.write_bytes({"cut": content[:inside], "empty": b"", "bit": flipped}[damage])
    step, arrays = folder.restore(SIZES)
    assert step == 4
    equal(arrays, state(4))
    assert "Left out" in capsys.readouterr().out
    folder.save(5, state(5))
    assert names(folder) == ["00000004.npz", "00000005.npz"]


def test_writing_that_is_cut_off_leaves_the_old_file(files, folder, monkeypatch):
    def cut_off(path, **arrays):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    path = folder.states / "00000006.npz"
    before = path.read_bytes()
    monkeypatch.setattr(files.np, "savez", cut_off)
    with pytest.raises(KeyboardInterrupt):
        folder.save(6, state(7))
    assert path.read_bytes() == before and names(folder) == ["00000004.npz", "00000006.npz"]
    assert folder.restore(SIZES)[0] == 6


def test_a_run_of_other_images_or_settings_or_of_train_py_is_refused(files, folder, tmp_path):
    other = files.RunFolder(folder.path, CONFIG, 8, {})
    with pytest.raises(ValueError, match="other images"):
        other.restore(SIZES)
    changed = run_config("digits", holdout=0.0, epochs=3)
    with pytest.raises(ValueError, match="epochs: 80 -> 3"):
        files.RunFolder(folder.path, changed, 7, {})
    files.RunFolder(tmp_path / "new", CONFIG, 7, {})
    files.RunFolder(tmp_path / "new", changed, 7, {})  # nothing was trained there yet
    (tmp_path / "tensorflow" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"a run of train\.py"):
        files.RunFolder(tmp_path / "tensorflow", CONFIG, 7, {})


def test_epochs_that_were_logged_but_not_saved_come_out_of_the_log(files, tmp_path):
    path = tmp_path / "log.csv"
    log = files.Log(path, 0)
    for epoch in range(3):
        log.add({"epoch": epoch, "loss": 4.0 - epoch})
    log = files.Log(path, 1)
    log.add({"epoch": 1, "loss": 9.0})
    assert path.read_text() == "epoch,loss\n0,4\n1,9\n"
    assert log.last() == {"epoch": 1, "loss": 9}


def test_only_a_file_of_pack_images_is_read(files, tmp_path):
    images = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez_compressed(good, images=images, labels=np.zeros(1), dataset=np.array("digits"))
    packed = files.PackedImages.load(good)
    np.testing.assert_array_equal(packed.images, images)
    assert packed.dataset == "digits"
    assert packed.fingerprint != files.PackedImages(255 - images, "digits").fingerprint
    np.savez(bad, images=images / 255, dataset=np.array("digits"))
    with pytest.raises(ValueError, match=r"has no images: expected a file of pack_images\.py"):
        files.PackedImages.load(bad)
    bad.write_text("no images")
    with pytest.raises(ValueError, match="cannot be read"):
        files.PackedImages.load(bad)


def test_another_number_of_channels_than_that_of_the_images_is_refused(files):
    packed = files.PackedImages(np.zeros((2, 4, 4, 3), "uint8"), "digits")
    packed.refuse_other_channels(3)
    with pytest.raises(ValueError, match=r"digits have 3 channels, and model.channels is 5"):
        packed.refuse_other_channels(5)
