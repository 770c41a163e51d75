"""The files of a run folder, also those that were cut off or carry odd names."""

import numpy as np
import pytest

from sit_keras.config.presets import run_config
from sit_keras.runs.files import write_text
from sit_keras.runs.folder import folder_name, run_name
from sit_keras.runs.log import last_losses, read_log


def test_a_log_line_that_was_cut_off_is_left_out(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,val_loss\n0,1.5,NA\n1,1.2\n2,1.1,1.0,3,0.9,0.8\n4,0.7,NA\n5,0.6,1")
    found = read_log(log)
    np.testing.assert_array_equal(found["epoch"], [0, 4])
    assert np.isnan(found["val_loss"]).all()
    assert last_losses(log) == {"epoch": 4.0, "loss": 0.7}
    log.write_text("epoch,loss\n")
    with pytest.raises(ValueError, match="No epoch is logged"):
        read_log(log)


def test_a_name_that_is_no_text_can_be_written(tmp_path):
    """Linux takes any bytes for a name; Python hands them on as lone surrogates."""
    write_text(tmp_path / "card.md", "images of folder:caf\udce9")
    assert "caf\\udce9" in (tmp_path / "card.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("folder:trip [2024]", "folder-trip--2024-"),
        ("folder:../my/photos", "folder-..-my-photos"),
        ("folder:what? *all*", "folder-what---all-"),
        ("folder:Größe_1.5/猫", "folder-Größe_1.5-猫"),
        ("folder:a\nb{c,d}\udce9", "folder-a-b-c-d--"),
        ("cifar10", "cifar10"),
    ],
)
def test_the_name_of_a_run_has_no_sign_that_is_taken_for_a_pattern(dataset, name):
    assert folder_name(dataset) == name
    assert run_name(run_config("native32", dataset=dataset)) == f"{name}-native32-seed0"


def test_names_of_long_paths_fit_a_file_system_and_differ():
    names = {folder_name(f"folder:{'ü' * 300}/{last}") for last in "ab"}
    assert len(names) == 2 and all(len(name.encode()) < 150 for name in names)
