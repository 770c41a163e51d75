"""`evaluate`: one number for one encoder, the folder it writes, and what it refuses."""

import json
import random
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from small_encoder import small_encoder

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.presets import run_config
from sit_keras.config.settings import ViewConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.folder import write_settings
from sit_keras.workflows.evaluate import evaluate


def write_run(folder, **changes):
    """Writes what `evaluate` reads of a run: its settings and its encoder."""
    folder.mkdir(exist_ok=True)
    encoder = small_encoder(**changes)
    encoder.save(folder / "encoder.keras")
    write_settings(folder, run_config("digits"))
    return encoder


@pytest.mark.parametrize("crop", [1.0, 0.5])
def test_a_run_its_file_and_its_preset_folder_give_the_same_accuracies(tmp_path, crop):
    """The crop is the encoder's, neither a default nor that of the run's settings."""
    preprocessing = PreprocessingConfig(crop=crop, mean=(0.2, 0.3, 0.4), std=(0.3, 0.3, 0.3))
    encoder = write_run(tmp_path / "run", preprocessing=preprocessing)
    encoder.save_to_preset(tmp_path / "preset")
    encoder.save(tmp_path / "alone.keras")
    sources = {
        "folder": tmp_path / "run",
        "file": tmp_path / "run" / "encoder.keras",
        "preset": tmp_path / "preset",
        "alone": tmp_path / "alone.keras",
    }
    results = {
        name: evaluate(path, "digits", ("linear", "knn"), tmp_path / name, k=(1, 5))
        for name, path in sources.items()
    }
    expected = results["folder"]
    for name, values in results.items():
        for part in ("fingerprint", "linear", "knn"):
            assert values[part] == expected[part], name
    assert expected["linear"]["accuracy"] > 0.3


def test_the_crop_of_the_encoder_changes_the_accuracies(tmp_path):
    encoder = small_encoder()
    encoder.save_to_preset(tmp_path / "whole")
    cut = encoder.clone(preprocessing=PreprocessingConfig(crop=0.5))
    cut.set_weights(encoder.get_weights())
    cut.save_to_preset(tmp_path / "cut")
    whole, half = (
        evaluate(tmp_path / name, "digits", ("knn",), k=(5,))["knn"]["5"]
        for name in ("whole", "cut")
    )
    assert whole > half + 0.05


@pytest.mark.slow
def test_a_run_and_its_file_have_the_settings_of_the_run(tmp_path):
    """The views of diagnostics, the data set, and the settings of training with labels."""
    write_run(tmp_path)
    gentle = run_config("digits", views=ViewConfig(crop_area=(1, 1), crop_ratio=(1, 1)))
    write_settings(tmp_path, gentle)
    results = [
        evaluate(tmp_path / name, protocol=("diagnostics",), output=tmp_path / "results" / name)
        for name in (".", "encoder.keras")
    ]
    assert results[0]["pretrained_on"] == results[1]["pretrained_on"] == "digits"
    assert results[0]["diagnostics"] == results[1]["diagnostics"]
    write_settings(tmp_path, run_config("digits"))
    other = evaluate(tmp_path, protocol=("diagnostics",), output=tmp_path / "results" / "other")
    assert other["diagnostics"]["alignment"] > 1.5 * results[0]["diagnostics"]["alignment"]


@pytest.mark.parametrize("kind", ["file", "preset"])
def test_an_encoder_without_a_run_needs_a_dataset(tmp_path, kind):
    path = tmp_path / "some.keras" if kind == "file" else tmp_path / "some"
    save = small_encoder().save if kind == "file" else small_encoder().save_to_preset
    save(path)
    with pytest.raises(ValueError, match="no config.json of a run beside .*: give a dataset"):
        evaluate(path)


def test_new_weights_follow_from_the_seed_and_not_from_the_kind_of_folder(tmp_path):
    write_run(tmp_path / "run").save_to_preset(tmp_path / "preset")
    fingerprints = [
        evaluate(tmp_path / name, "digits", ("knn",), k=(1,), scratch=True, seed=seed)[
            "fingerprint"
        ]
        for name, seed in (("run", 1), ("preset", 1), ("run", 2))
    ]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_the_random_numbers_of_the_caller_are_not_seeded_again(tmp_path):
    small_encoder().save(tmp_path / "some.keras")
    numbers = []
    for seed in (5, 6):
        keras.utils.set_random_seed(seed)
        evaluate(tmp_path / "some.keras", "digits", ("linear",), scratch=True)
        numbers.append((random.random(), np.random.random(), float(keras.random.uniform(()))))
    assert all(one != other for one, other in zip(*numbers, strict=True))


def test_a_run_is_evaluated_at_another_size_and_with_few_labels(tmp_path, capsys):
    write_run(tmp_path)
    results = evaluate(tmp_path, protocol=("linear", "knn"), image_size=12, k=(5, 10_000))
    assert results == json.loads((tmp_path / "evaluation/digits-12px/results.json").read_text())
    assert (results["dataset"], results["image_shape"]) == ("digits", [12, 12, 3])
    assert set(results["knn"]) == {"features", "5"} and results["linear"]["accuracy"] > 0.5
    few = evaluate(tmp_path, protocol=("linear",), per_class=3)
    assert few["train_images"] == 30 and few["linear"]["accuracy"] > 0.3
    assert (tmp_path / "evaluation" / "digits-30-labels" / "classifier.keras").exists()
    out = capsys.readouterr().out
    assert f"{results['linear']['accuracy']:.2%}" in out and str(tmp_path / "evaluation") in out


def test_an_oblong_encoder_is_evaluated_by_what_cuts_no_squares(tmp_path):
    path = tmp_path / "oblong.keras"
    small_encoder(image_shape=(8, 12, 3)).save(path)
    with pytest.raises(ValueError, match="diagnostics would cut square crops.*8 x 12 pixels"):
        evaluate(path, "digits")
    results = evaluate(path, "digits", protocol=("knn",), k=(5,))
    assert results["image_shape"] == [8, 12, 3] and results["knn"]["5"] > 0.3


def test_what_cannot_be_evaluated_is_refused_in_one_sentence(tmp_path):
    small_encoder().save(tmp_path / "some.keras")
    with pytest.raises(ValueError, match="Unknown protocol 'zero-shot'"):
        evaluate(tmp_path / "some.keras", "digits", protocol=("zero-shot",))
    with pytest.raises(ValueError, match="not divisible by patch_size 4"):
        evaluate(tmp_path / "some.keras", "digits", image_size=10)
    with pytest.raises(ValueError, match="No encoder at"):
        evaluate(tmp_path / "nothing", "digits")
    small_encoder(image_shape=(8, 8, 1), preprocessing=None).save(tmp_path / "grey.keras")
    with pytest.raises(ValueError, match="images of 1 channels, and all data sets are loaded as"):
        evaluate(tmp_path / "grey.keras", "digits")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "images" / "one.png")
    with pytest.raises(ValueError, match="has no labels to evaluate with"):
        evaluate(tmp_path / "some.keras", f"folder:{tmp_path / 'images'}")


@pytest.mark.slow
def test_the_command_writes_results_and_refuses_flags_without_effect(tmp_path):
    def call(*arguments):
        command = [sys.executable, ROOT / "evaluate.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    SiTBackbone(**small_encoder().get_config()).save(tmp_path / "some.keras")
    result = call("--run=some.keras", "--dataset=digits", "--k=3", "--features=contrastive_token")
    assert result.returncode == 0, result.stderr
    assert "3 neighbours" in result.stdout and "evaluation/digits" in result.stdout
    for name in ("results.json", "classifier.keras", "confusion.png", "map.png"):
        assert (tmp_path / "evaluation" / "digits" / name).exists()
    bad = call("--run=some.keras", "--dataset=digits", "--k=some")
    assert bad.returncode == 1 and "evaluate.py: --k takes whole numbers" in bad.stderr
    assert "Traceback" not in bad.stderr
    lost = call("--table=linear", "--fraction=0.1", "--seed=3")
    assert "--fraction, --seed has no effect on a table: leave it out." in lost.stderr
