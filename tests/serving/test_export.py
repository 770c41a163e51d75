"""How an export is written, named and verified, and what its contract says."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from serving_case import (
    CONFIG,
    NAMES,
    PREPROCESSING,
    SIGNATURES,
    assert_close,
    build_backbone,
    contract_of,
)
from tensorflow_serving.apis import prediction_log_pb2

from sit_keras.config.files import UNFINISHED
from sit_keras.config.presets import run_config
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.runs.folder import write_settings
from sit_keras.serving import export as export_module
from sit_keras.serving import verify
from sit_keras.serving.contract import examples, keras_outputs
from sit_keras.serving.export import export, verify_export
from sit_keras.serving.servable import Servable
from sit_keras.serving.versions import export_folder, has_version_of, refuse_output

ENCODER_ONLY = {"serving_default", "serving_bytes", "patches"}


# --- The contract ---------------------------------------------------------------------------------


def test_the_contract_has_what_a_client_must_know(exported, run_folder):
    contract = contract_of(exported)
    assert contract["class_names"] == list(NAMES)
    assert contract["source"]["preset"] == "digits"
    assert contract["source"]["classifier"] == "classifier.keras"
    backbone = SiTBackbone.from_preset(run_folder)
    assert SiTBackbone.from_config(contract["model"]).get_config() == backbone.get_config()
    assert contract["signatures"]["serving_bytes"] == {
        "inputs": {"image_bytes": {"dtype": "string", "shape": [None]}},
        "outputs": {
            "rotation_token": {"dtype": "float32", "shape": [None, 24]},
            "contrastive_token": {"dtype": "float32", "shape": [None, 24]},
            "embedding": {"dtype": "float32", "shape": [None, 48]},
            "ok": {"dtype": "bool", "shape": [None]},
            "error": {"dtype": "string", "shape": [None]},
        },
    }


def test_the_contract_states_the_preprocessing_in_numbers(exported):
    preprocessing = contract_of(exported)["preprocessing"]
    limits = preprocessing.pop("limits")
    assert set(limits) == {
        "images", "image_pixels", "bytes", "jpeg_pixels", "jpeg_samples", "jpeg_scans",
        "jpeg_scan_pixels", "jpeg_segments", "png_pixels", "png_data_bytes", "png_unpacked_bytes",
        "png_chunks",
    }  # fmt: skip
    sentences = [preprocessing.pop("input"), *preprocessing.pop("steps")]
    sentences += preprocessing.pop("left_to_the_caller")
    assert all(isinstance(sentence, str) for sentence in sentences)
    assert preprocessing == {
        "image_shape": [16, 16, 3],
        "value_range": [0.0, 1.0],  # of what is sent, whatever the encoder was trained on
        "crop": PREPROCESSING.crop,
        "fit": "crop",
        "mean": list(PREPROCESSING.mean),
        "std": list(PREPROCESSING.std),
    }


def test_warm_up_requests_are_answered(exported):
    functions = tf.saved_model.load(str(exported)).signatures
    asked = []
    for record in tf.data.TFRecordDataset(
        str(exported / "assets.extra" / "tf_serving_warmup_requests")
    ):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        name = request.model_spec.signature_name
        ((key, value),) = request.inputs.items()
        outputs = functions[name](**{key: tf.constant(tf.make_ndarray(value))})
        asked.append((name, len(next(iter(outputs.values())))))
        assert "ok" not in outputs or outputs["ok"].numpy().all()
    assert sorted(asked) == sorted((name, count) for name in SIGNATURES for count in (1, 8))


# --- What is exported -----------------------------------------------------------------------------


def test_where_versions_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in ("runs/a", "evaluation/runs/c"):
        pathlib.Path(run).mkdir(parents=True)
        pathlib.Path(run, "encoder.keras").touch()
    places = {
        "runs/digits-digits-seed0": "digits-digits-seed0",
        "runs/my.photos-v2.1": "my.photos-v2.1",
        "runs/a/encoder.keras": "a",
        "b/other.keras": "other",
        "runs/a/evaluation/digits/finetune": "a-digits-finetune",
        "evaluation/runs/c": "c",
        "evaluation/runs/c/evaluation/digits": "c-digits",
    }
    for run, name in places.items():
        assert export_folder(run) == pathlib.Path("exports") / name


@pytest.mark.parametrize("name", ["ex [1]", "a[b]c", "ex?", "*", "back\\slash"])
def test_a_folder_that_tensorflow_takes_for_a_pattern_is_refused_before_any_work(name, tmp_path):
    output = tmp_path / name / "photos"
    with pytest.raises(ValueError, match="takes for a pattern .* give another --output"):
        export(tmp_path / "no run", output)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_take_an_export_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"b'.*a\\xff' is not UTF-8 text: give another --output"):
        refuse_output(os.fsencode(tmp_path).decode() + "/a\udcff")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file, so that no export fits into .*file/a/b"):
        refuse_output(tmp_path / "file" / "a" / "b")
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path))  # also as root
    with pytest.raises(ValueError, match="closed cannot be written, so that no export fits"):
        refuse_output(tmp_path / "closed" / "a")
    refuse_output(tmp_path / "new" / "{a,b} ]~$HOME é")


def test_a_version_counts_if_it_was_written_after_the_run_had_ended(tmp_path):
    output, model = tmp_path / "exports", tmp_path / "exports" / "1" / "saved_model.pb"
    (tmp_path / "results.json").write_text("{}")
    assert not has_version_of(tmp_path, output)
    (output / f"{UNFINISHED}1").mkdir(parents=True)
    (output / "1").mkdir()
    assert not has_version_of(tmp_path, output)
    model.write_text("")
    assert has_version_of(tmp_path, output)
    os.utime(model, (1, 1))  # of an earlier run of that name
    assert not has_version_of(tmp_path, output)


def test_what_cannot_be_exported(run_folder, tmp_path):
    with pytest.raises(ValueError, match="No encoder at"):
        export(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(ValueError, match="No classifier at"):
        export(run_folder, tmp_path / "out", classifier=tmp_path / "nothing.keras")
    with pytest.raises(
        ValueError,
        match="encoder.keras cannot be read as a classifier: it holds .*, expected .*SiTImageC",
    ):
        export(run_folder, tmp_path / "out", classifier=run_folder / "encoder.keras")
    SiTImageClassifier(build_backbone(), 3).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="encoder of .*other.keras is not that of"):
        export(run_folder, tmp_path / "out", classifier=tmp_path / "other.keras")
    build_backbone(image_shape=(16, 24, 3)).save(tmp_path / "wide.keras")
    with pytest.raises(ValueError, match=r"must be \(S, S, 3\); received \(16, 24, 3\)"):
        export(tmp_path / "wide.keras", tmp_path / "out")
    with pytest.raises(ValueError, match="failed: "):
        verify_export(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_classifier_with_another_preprocessing_is_refused(run_folder, tmp_path):
    """Its weights are the same, and its answers to the same image would not be."""
    other = dataclasses.replace(PREPROCESSING, crop=0.5)
    encoder = SiTBackbone.from_preset(run_folder, preprocessing=other)
    SiTImageClassifier(encoder, 3).save(tmp_path / "cut.keras")
    with pytest.raises(ValueError, match="encoder of .*cut.keras is not that of"):
        export(run_folder, tmp_path / "out", classifier=tmp_path / "cut.keras")


@pytest.mark.parametrize("kind", [pytest.param("encoder", marks=pytest.mark.slow), "classifier"])
def test_a_preset_folder_is_exported(kind, run_folder, tmp_path, unit_pictures, expected_outputs):
    model = keras.saving.load_model(run_folder / f"{kind}.keras")
    model.save_to_preset(tmp_path / "preset")
    version = export(tmp_path / "preset", tmp_path / "out", check=False)
    functions = tf.saved_model.load(str(version)).signatures
    names = {"serving_default"} if kind == "encoder" else {"serving_default", "classify"}
    assert (set(functions) == ENCODER_ONLY) == (kind == "encoder")
    for name in names:
        assert_close(functions[name](tf.constant(unit_pictures)), expected_outputs[name])


def test_a_place_in_the_home_folder_is_the_same_place(run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(run_folder.parent))
    shutil.copy(run_folder / "classifier.keras", tmp_path / "other.keras")
    parts = loaded_parts("~/run", monkeypatch, tmp_path)
    assert parts.head is not None and parts.pretext is not None
    assert parts.source["preset"] == "digits"
    monkeypatch.setenv("HOME", str(tmp_path))
    parts = loaded_parts(run_folder / "encoder.keras", monkeypatch, "~", classifier="~/other.keras")
    assert parts.head is not None
    assert not pathlib.Path("~").exists()


def loaded_parts(run, monkeypatch, home, **settings):
    """What an export to a folder `out` is made of; nothing is written."""

    def stop(encoder, pretext, tasks, head, names, half):
        raise KeyError(names)

    found = []
    load = export_module._load
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "_load", lambda *each: found.append(load(*each)) or found[0])
        patch.setattr(export_module, "Servable", stop)
        with pytest.raises(KeyError):
            export(run, f"{home}/out", **settings)
    return found[0]


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_a_classifier_of_mixed_precision_has_the_reference_of_the_export(
    dtype, run_folder, unit_pictures, expected_outputs, tmp_path
):
    plain = keras.saving.load_model(run_folder / "classifier.keras")
    backbone = plain.backbone.clone(dtype=dtype)
    mixed = SiTImageClassifier(backbone, len(NAMES), class_names=NAMES)
    mixed.set_weights(plain.get_weights())
    mixed.save(tmp_path / "mixed.keras")
    parts = export_module._load(run_folder, tmp_path / "mixed.keras")
    outputs = keras_outputs(parts, unit_pictures)["classify"]
    assert_close(outputs, {name: expected_outputs["classify"][name] for name in outputs}, atol=1e-6)


@pytest.mark.slow
def test_heads_that_were_not_trained_are_left_out(run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    tasks = ("rotation", "contrastive")
    write_settings(folder, dataclasses.replace(run_config("digits"), model=CONFIG, tasks=tasks))
    version = export(folder, tmp_path / "out", check=False)
    assert set(contract_of(version)["signatures"]) == SIGNATURES - {"reconstruct"}


@pytest.mark.slow
def test_a_classifier_of_another_encoder_is_left_out(run_folder, tmp_path, capsys):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    SiTImageClassifier(build_backbone(), 3).save(folder / "classifier.keras")
    version = export(folder, tmp_path / "out", check=False)
    assert "so the export has no classes" in capsys.readouterr().out
    contract = contract_of(version)
    assert "classify" not in contract["signatures"] and contract["class_names"] == []


# --- Versions -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_versions_count_and_a_failed_one_leaves_nothing(run_folder, tmp_path, monkeypatch):
    encoder, output = run_folder / "encoder.keras", tmp_path / "out"
    (output / ".writing-old").mkdir(parents=True)
    (output / ".writing-a.tflite").write_text("half")
    (output / ".writing-link").symlink_to(run_folder)
    assert [export(encoder, output, check=False).name for _ in range(2)] == ["1", "2"]
    assert sorted(path.name for path in output.iterdir()) == [".lock", "1", "2"]
    assert set(contract_of(output / "1")["signatures"]) == ENCODER_ONLY

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("sit_keras.serving.export.write_warmup", full)
    with pytest.raises(OSError, match="No space left on the disk of .*out. Nothing was written"):
        export(encoder, output)
    assert encoder.exists()
    assert sorted(path.name for path in output.iterdir()) == [".lock", "1", "2"]


KILLED = """
import os, signal, sys
from sit_keras.serving import export
export.write_warmup = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
export.export(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_no_version(run_folder, tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, run_folder, tmp_path / "out"])
    assert process.returncode == -signal.SIGKILL
    _, left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left.startswith(".writing-")
    assert export(run_folder / "encoder.keras", tmp_path / "out", check=False).name == "1"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "1"]


@pytest.mark.slow
def test_odd_names_that_work_are_exported_and_read_again(run_folder, tmp_path):
    """The run may have any name; the export those that TensorFlow can read."""
    run = shutil.copytree(run_folder, tmp_path / "trip [2024] *?{a}" / "run")
    version = export(run, tmp_path / "{a,b} ]~$HOME é" / "photos", check=False)
    assert "classify_bytes" in verify_export(version)


# --- Verification ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_verification_finds_a_weight_that_was_changed(run_folder, tmp_path):
    version = export(run_folder, tmp_path / "out", check=False)
    report = verify_export(version)
    assert "classify_bytes" in report and "files as exported" in report
    data = version / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    floats = np.frombuffer(content, "float32", count=len(content) // 4)
    place = 4 * int(np.argmax((np.abs(floats) > 0.05) & (np.abs(floats) < 1)))
    content[place : place + 4] = np.float32(1.7).tobytes()
    data.write_bytes(content)
    with pytest.raises(ValueError, match="not those that were exported: variables/variables.data"):
        verify_export(version)


def test_a_model_that_calls_python_is_refused(tmp_path):
    """It gives the right answers in the process that it was exported in, and on no server."""
    module = tf.Module()
    module.double = tf.function(
        lambda x: tf.numpy_function(lambda y: 2 * y, [x], tf.float32),
        input_signature=[tf.TensorSpec((), tf.float32)],
    )
    tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(ValueError, match="calls Python functions: .*PyFunc"):
        verify.refuse_python(tmp_path)


@pytest.mark.slow
def test_an_export_is_traced_once_and_compared_before_it_has_a_name(
    run_folder, tmp_path, monkeypatch
):
    traced, patches = [], Servable.patches
    monkeypatch.setattr(
        Servable, "patches", lambda self, views: traced.append(1) or patches(self, views)
    )
    version = export(run_folder / "encoder.keras", tmp_path / "out")
    assert len(traced) == 1 and version.name == "1"

    def wrong(signatures, parts):
        found = examples(signatures, parts)
        return {**found, "patches/patches": found["patches/patches"] + 1e-3}

    monkeypatch.setattr("sit_keras.serving.export.examples", wrong)
    with pytest.raises(ValueError, match="failed: .* off its examples"):
        export(run_folder / "encoder.keras", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("wrong, complaint", [(1e-3, "off its examples"), (np.nan, "off its|not")])
def test_verification_compares_with_the_examples(run_folder, tmp_path, wrong, complaint):
    version = export(run_folder / "encoder.keras", tmp_path / "out", check=False)
    examples = dict(np.load(version / "assets" / "examples.npz"))
    examples["patches/patches"][1, 2, 3] += wrong
    np.savez(version / "assets" / "examples.npz", **examples)
    sums = version / "assets.extra" / "checksums.json"
    sums.write_text(json.dumps(verify.checksums(version)))
    with pytest.raises(ValueError, match=f"failed: .*patches.*({complaint})"):
        verify_export(version)
