"""`evaluate`: one number for one encoder, the folder it writes, and what it refuses."""

import dataclasses
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
from sit_keras.data.sources import Source, load_source
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.folder import write_settings
from sit_keras.workflows.evaluate import evaluate
from sit_keras.workflows.labelled_images import labelled_images


def write_run(folder, **changes):
    """Writes what `evaluate` reads of a run: its settings and its encoder."""
    folder.mkdir(exist_ok=True)
    encoder = small_encoder(**changes)
    encoder.save(folder / "encoder.keras")
    write_settings(folder, run_config("digits"))
    return encoder


@pytest.mark.parametrize("crop", [pytest.param(1.0, marks=pytest.mark.slow), 0.5])
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
        name: evaluate(path, "digits", ("linear", "knn"), tmp_path / "results" / name, k=(1, 5))
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
    assert set(results["knn"]) == {"features", "5", "scores"}
    assert results["linear"]["accuracy"] > 0.5
    few = evaluate(tmp_path, protocol=("linear",), per_class=3)
    assert few["train_images"] == 30 and few["linear"]["accuracy"] > 0.3
    assert (tmp_path / "evaluation" / "digits-30-labels" / "classifier.keras").exists()
    out = capsys.readouterr().out
    assert not any(sign in out for sign in ("{", "kernel", "new weights"))  # a table
    assert "More neighbours than the 1437 training images are left out: 10000." in out
    assert f"{results['linear']['accuracy']:.2%}" in out and str(tmp_path / "evaluation") in out


def test_an_oblong_encoder_is_evaluated_by_what_cuts_no_squares(tmp_path):
    path = tmp_path / "oblong.keras"
    small_encoder(image_shape=(8, 12, 3)).save(path)
    with pytest.raises(ValueError, match="diagnostics would cut square crops.*8 x 12 pixels"):
        evaluate(path, "digits")
    results = evaluate(path, "digits", protocol=("knn",), k=(5,))
    assert results["image_shape"] == [8, 12, 3] and results["knn"]["5"] > 0.3


def test_an_encoder_of_grey_images_is_evaluated_on_grey_digits(tmp_path):
    path = tmp_path / "grey.keras"
    small_encoder(image_shape=(8, 8, 1), preprocessing=None).save(path)
    results = evaluate(path, "digits", protocol=("knn",), k=(5,), image_size=12)
    assert results["image_shape"] == [12, 12, 1] and results["knn"]["5"] > 0.3


def test_what_cannot_be_evaluated_is_refused_in_one_sentence(tmp_path):
    small_encoder().save(tmp_path / "some.keras")
    with pytest.raises(ValueError, match="Unknown protocol 'zero-shot'"):
        evaluate(tmp_path / "some.keras", "digits", protocol=("zero-shot",))
    with pytest.raises(ValueError, match="not divisible by patch_size 4"):
        evaluate(tmp_path / "some.keras", "digits", image_size=10)
    with pytest.raises(ValueError, match="No encoder at"):
        evaluate(tmp_path / "nothing", "digits")
    small_encoder(image_shape=(8, 8, 5), preprocessing=None).save(tmp_path / "five.keras")
    with pytest.raises(ValueError, match="digits.* it has 1 channel, and 5 are expected"):
        evaluate(tmp_path / "five.keras", "digits")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "images" / "one.png")
    with pytest.raises(ValueError, match="has no labels to evaluate with"):
        evaluate(tmp_path / "some.keras", f"folder:{tmp_path / 'images'}")


def write_images(folder, split, **counts):
    random = np.random.default_rng(len(split))
    for name, count in counts.items():
        (folder / split / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (12, 12, 3), "uint8")
            Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


def test_an_accuracy_on_unequal_classes_stands_beside_that_of_the_largest_class(tmp_path, capsys):
    """Of 19 and 1 test images a constant answer gets 95 %, and half of the balanced accuracy."""
    write_images(tmp_path / "x", "train", healthy=38, ill=2)
    write_images(tmp_path / "x", "val", healthy=19, ill=1)
    small_encoder().save(tmp_path / "some.keras")
    dataset = f"folder:{tmp_path / 'x'}"
    results = evaluate(tmp_path / "some.keras", dataset, ("linear", "knn"), k=(5, 200))
    out = capsys.readouterr().out
    largest = results["largest_class"]
    assert (largest["class"], largest["accuracy"]) == ("healthy", 0.95)
    assert largest["balanced_accuracy"] == 0.5
    assert largest["macro_f1"] == pytest.approx(2 * 0.95 / 1.95 / 2)
    lines = {line[:32].strip(): line[32:].split() for line in out.splitlines()}
    numbers = ["95.00%", "(85.0", "to", "100.0)", "50.0%", "48.7%"]
    assert lines["always the largest class"] == numbers
    assert lines["5 neighbours"][0] == "95.00%" and "hance" not in out
    assert "40 labelled training images, 20 test images, 2 classes" in out
    (path,) = (tmp_path / "evaluation").glob("*/results.json")
    saved = json.loads(path.read_text())
    assert saved == results and str(tmp_path) not in json.dumps(saved)


def test_images_that_changed_are_not_mixed_with_results_of_before(tmp_path, capsys):
    write_images(tmp_path / "x", "train", a=6, b=6)
    write_images(tmp_path / "x", "test", a=2, b=2)
    small_encoder().save(tmp_path / "some.keras")
    dataset, output = f"folder:{tmp_path / 'x'}", tmp_path / "out"
    evaluate(tmp_path / "some.keras", dataset, ("knn",), output, k=(1,))
    both = evaluate(tmp_path / "some.keras", dataset, ("linear",), output)
    assert {"knn", "linear"} <= set(both) and (output / ".sit-keras").exists()
    (tmp_path / "x" / "test" / "a" / "0.png").rename(tmp_path / "x" / "test" / "b" / "9.png")
    other = evaluate(tmp_path / "some.keras", dataset, ("linear",), output)
    assert "knn" not in other and other["test_images"] == both["test_images"]
    assert "is now results-1.json" in capsys.readouterr().out
    assert json.loads((output / "results-1.json").read_text()) == both
    (output / "results.json").write_text("[]")
    with pytest.raises(ValueError, match="results.json should hold the results of an evaluation"):
        evaluate(tmp_path / "some.keras", dataset, ("linear",), output)


def test_without_test_images_it_says_that_training_has_seen_those_it_tests_on(tmp_path, capsys):
    write_images(tmp_path, "x", a=10, b=10)
    small_encoder().save(tmp_path / "some.keras")
    results = evaluate(tmp_path / "some.keras", f"folder:{tmp_path / 'x'}", ("knn",), k=(1,))
    out = capsys.readouterr().out
    assert "so 4 of its 20 labelled images are held out to test on" in out
    assert "has seen them, without their labels" in out and "4 held out images" in out
    assert (results["train_images"], results["test_split"]) == (16, "held out")


def test_numbers_of_neighbours_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    small_encoder().save(tmp_path / "some.keras")
    for k in ((10_000,), (0, 5), ()):
        with pytest.raises(ValueError, match="between 1 and the 1437 training images, received"):
            evaluate(tmp_path / "some.keras", "digits", ("linear", "knn"), k=k)
    assert not (tmp_path / "evaluation").exists()


def test_test_images_without_a_label_and_classes_that_lack_are_named(tmp_path, capsys, monkeypatch):
    digits = load_source("digits")
    train = digits.train.take(np.flatnonzero(digits.train.labels < 2)[:30])
    labels = np.array([0, -1, -1])
    test = dataclasses.replace(digits.test.take(np.arange(3)), labels=labels)
    train, test = (dataclasses.replace(x, class_names=("a", "b", "c")) for x in (train, test))
    module = labelled_images.__globals__
    monkeypatch.setitem(module, "load_source", lambda *_, **__: Source("x", train, test))
    small_encoder().save(tmp_path / "some.keras")
    results = evaluate(tmp_path / "some.keras", "x", output=tmp_path / "out", k=(1,))
    assert (results["test_images"], results["test_split"]) == (1, "test")
    out = capsys.readouterr().out
    assert "Classes without a training image, so they are never predicted: c." in out
    assert "Classes without a test image, so they count in no mean over classes: b, c." in out
    unlabelled = dataclasses.replace(test, labels=np.full(3, -1))
    monkeypatch.setitem(module, "load_source", lambda *_, **__: Source("x", train, unlabelled))
    kept, held_out, split = labelled_images("x", None, False, 0)
    assert (len(kept), len(held_out), split) == (24, 6, "held out")
    monkeypatch.setitem(
        module, "load_source", lambda *_, **__: Source("x", train.take([0, 1]), None)
    )
    with pytest.raises(ValueError, match="2 labelled images are too few to hold some out"):
        labelled_images("x", None, False, 0)


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
