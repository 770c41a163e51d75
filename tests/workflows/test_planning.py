"""`train` on a folder without another flag: planned, measured, trained, resumed, and answered."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from run_case import same_weights

from sit_keras.cli.main import call, command
from sit_keras.cli.planned import draft_settings
from sit_keras.config.presets import AUTO
from sit_keras.runs.folder import read_settings
from sit_keras.workflows.plan_text import plan_text
from sit_keras.workflows.planning import draft_plan
from sit_keras.workflows.pretrain import pretrain

FEW = "--set=model.num_layers=1", "--set=model.hidden_dim=12", "--set=model.mlp_dim=12"


def photos(folder, count, classes=("dark", "light"), side=20):
    """Made photos: the classes differ in their brightness."""
    random = np.random.default_rng(0)
    for i in range(count):
        number = i % len(classes)
        pixels = random.integers(100 * number, 100 * number + 150, (side, side + 6, 3), np.uint8)
        path = folder / classes[number] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return f"--dataset=folder:{folder}"


@pytest.fixture
def train(tmp_path, capsys):
    """Calls `train` without its export, and returns what it printed."""

    def call_and_read(*arguments):
        capsys.readouterr()  # what a call that was refused has printed
        call("train", ["--noexport", f"--run_dir={tmp_path / 'run'}", *arguments])
        return capsys.readouterr().out

    return call_and_read


def test_a_dry_run_prints_the_plan_with_its_cost_and_leaves_no_file(tmp_path, train):
    text = train(photos(tmp_path / "photos", 60), "--dry_run", "--minutes=2", *FEW)
    lines = text.splitlines()
    assert len(lines) <= 15
    assert "60 images in 2 classes (dark, light)" in text
    # A fifth is held out to answer by, and the other 48 images make six batches of 8.
    assert "Plan for 48 images to train on, 20 px at their short side" in text
    assert re.search(
        r"Measured: \S+ s a step \(8 steps on .*\), \S+ GB of memory; \S+ GFLOPs", text
    )
    assert re.search(r"Expected: about \d+ minutes, of the 2 minutes that --minutes allows", text)
    assert not (tmp_path / "run").exists()


def test_the_flags_of_a_plan_are_all_that_it_chose(tmp_path):
    """Given to `train`, they are the plan, whatever a step takes."""
    small, large = photos(tmp_path / "small", 60), photos(tmp_path / "large", 60, side=40)
    cases = [(small, ["--batch_size=6"]), (small, ["--set=initial_encoder=sit_digits"])]
    for dataset, extra in [(small, []), (large, []), *cases]:
        plan = draft_settings(command("train").parse([dataset, *extra]))
        plan = dataclasses.replace(plan, found="")
        flags = re.findall(r"--\S+=\S+", "\n".join(plan_text(plan).splitlines()[1:-1]))
        again = draft_settings(command("train").parse([dataset, *flags]))
        assert again.config == plan.config, shlex.join(flags)
        assert {"epochs", "batch_size", "image_size", "recipe"} <= {
            flag[2:].partition("=")[0] for flag in flags
        }


def test_a_plan_of_a_list_counts_the_files_that_can_be_read(tmp_path, capsys):
    photos(tmp_path / "photos", 24)
    files = sorted((tmp_path / "photos").rglob("*.png"))
    for file in files[6:]:
        file.write_text("no image")
    lines = [f"{file},{file.parent.name if i % 2 else 'other'}" for i, file in enumerate(files)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    of_list = draft_plan(f"list:{tmp_path}/list.csv", "modern", {})
    assert of_list.photos.images == of_list.photos.labelled == 6
    assert of_list.trained + of_list.held_out == 6 and of_list.steps >= 1
    assert "left out: 18 unreadable files" in of_list.found
    assert capsys.readouterr().out == ""  # what was found is said once, with the plan


def test_few_photos_start_from_the_shipped_encoder_and_its_network(tmp_path):
    dataset = photos(tmp_path, 60, side=40)
    config = draft_settings(command("train").parse([dataset])).config
    assert config.initial_encoder == "sit_cifar10_cpu"
    assert (config.model.stem, config.model.patch_size, config.model.image_size) == ("conv", 8, 32)
    new = draft_settings(command("train").parse([dataset, "--set=initial_encoder=None"])).config
    assert new.initial_encoder is None and new.model.hidden_dim == config.model.hidden_dim
    own = draft_settings(command("train").parse([dataset, "--patch_size=4"])).config
    assert own.initial_encoder is None and own.model.patch_size == 4


def test_a_plan_that_starts_from_an_encoder_does_not_start_tensorflow(tmp_path):
    """Which the doctor divides into two devices afterwards."""
    photos(tmp_path, 12, side=40)
    code = (
        "import sys, tensorflow as tf; from sit_keras.workflows.planning import draft_plan; "
        "plan = draft_plan(sys.argv[1], 'modern', {}); assert plan.config.initial_encoder; "
        "cpu, = tf.config.list_physical_devices('CPU'); halves = [tf.config."
        "LogicalDeviceConfiguration()] * 2; tf.config.set_logical_device_configuration(cpu, halves)"
    )
    command = [sys.executable, "-c", code, f"folder:{tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_broken_photos_do_not_count(tmp_path):
    photos(tmp_path, 12)
    for i in range(4):
        (tmp_path / "dark" / f"broken{i}.png").write_bytes(b"none")
    assert draft_plan(f"folder:{tmp_path}", "modern", {}).photos.images == 12


def test_of_a_list_a_fifth_is_held_out_and_its_values_are_read_as_they_are_said(tmp_path):
    random, lines = np.random.default_rng(0), []
    for i in range(40):
        values = random.integers(0, 4096, (20, 26, 3), np.uint16)
        values[0, 0] = 4095
        np.save(tmp_path / f"{i}.npy", values)
        lines.append(f"{i}.npy,{i % 2}")
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines))
    plan = draft_plan(f"list:{path}", "modern", {"value_range": (0, 4095)})
    counted = plan.photos.images, plan.photos.labelled, plan.photos.side
    assert counted == (40, 40, 20), plan.found
    assert not plan.photos.has_test and plan.config.holdout == 0.2


def test_a_data_set_that_is_no_folder_can_be_planned_too():
    plan = draft_plan("digits", "paper", {})
    assert (plan.photos.images, plan.photos.side, plan.config.model.image_size) == (1437, 8, 16)


def test_flags_that_do_not_go_with_a_plan_are_refused(tmp_path, train):
    dataset = photos(tmp_path / "photos", 20)
    for arguments, message in (
        (["--minutes=5"], "--minutes=5 is for --preset=auto"),
        ([dataset, "--minutes=5", "--epochs=3"], "Give either --minutes or --epochs"),
        ([dataset, "--minutes=0"], "--minutes must be above 0, received 0"),
        ([dataset, "--strategy=multiworker"], "--preset=auto measures a step on one machine"),
    ):
        with pytest.raises(ValueError, match=message):
            train(*arguments)


@pytest.mark.slow
def test_a_folder_is_trained_without_another_flag_and_goes_on_without_another_plan(tmp_path, train):
    """The numbers are saved; the finished run stays; other settings are refused."""
    dataset = photos(tmp_path / "photos", 60)
    text = train(dataset, "--minutes=1.6")
    assert "Plan for 48 images" in text and "What to do next" in text
    config = read_settings(tmp_path / "run")
    assert config.preset == AUTO and config.epochs >= 1
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert isinstance(saved["epochs"], int) and isinstance(saved["learning_rate"], float)
    again = train(dataset)
    assert "Measuring" not in again and "is finished already" in again
    assert read_settings(tmp_path / "run") == config
    with pytest.raises(ValueError, match="batch_size: 8 -> 4"):
        train(dataset, "--batch_size=4")
    with pytest.raises(ValueError, match="recipe: modern -> paper"):
        train(dataset, "--recipe=paper")
    assert len(train(dataset, "--dry_run").splitlines()) <= 15


@pytest.mark.slow
def test_the_saved_numbers_alone_give_the_same_encoder(tmp_path, train):
    """What was measured before the run changes nothing of it but the numbers."""
    train(photos(tmp_path / "photos", 60), "--epochs=2", *FEW)
    pretrain(read_settings(tmp_path / "run"), tmp_path / "again", compare=False)
    assert same_weights(tmp_path / "run", tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "classes", "sentence"),
    [
        (60, ("dark", "light"), "12 labelled test images are too few, 30 are needed"),
        (20, ("dark", "light"), "4 labelled test images are too few, 30 are needed"),
        (20, ("all",), "Whether this encoder is better than .* was not measured"),
        (3, ("all",), "Whether this encoder is better than .* was not measured"),
    ],
)
def test_few_photos_end_in_a_true_sentence(count, classes, sentence, tmp_path, train):
    text = train(photos(tmp_path / "photos", count, classes), "--epochs=3", *FEW)
    assert re.search(sentence.replace(" ", r"\s+"), text), text[-2000:]
    assert "steps, which are too few" in " ".join(text.split())
