"""The exported model: its numbers by every loader, its contract, its versions."""

import dataclasses
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, free_ports
from google.protobuf import text_format
from PIL import Image
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2
from test_decoding import encode

from sit_keras.config.network import SiTConfig
from sit_keras.config.presets import recipe
from sit_keras.data.sources import load_source
from sit_keras.evaluation.features import FrozenFeatures, select_features
from sit_keras.models.backbone import build_encoder, build_ssl_model
from sit_keras.models.classifier import build_classifier
from sit_keras.runs.folder import write_settings
from sit_keras.serving import client, verify
from sit_keras.serving.contract import keras_outputs
from sit_keras.serving.export import _load, export, export_folder, export_tflite, verify_export
from sit_keras.serving.servable import fuse
from sit_keras.workflows.orient import main as orient_main
from sit_keras.workflows.orient import orient
from sit_keras.workflows.outliers import main as outliers_main

CONFIG = SiTConfig(16, 4, 24, 2, 2, 32, projection_dim=8)
NAMES = ("cat", "dog", "owl", "fox", "éléphant", "elk")
SIGNATURES = {
    "serving_default", "serving_bytes", "patches", "reconstruct", "predict_rotation", "classify",
    "classify_bytes",
}  # fmt: skip


def save_run(folder):
    """A run folder as train.py and evaluate.py leave it, untrained but with weights that matter."""
    folder.mkdir()
    keras.utils.set_random_seed(3)
    network = build_ssl_model(CONFIG)
    for weight in network.trainable_variables:
        weight.assign(weight + 0.1 * np.random.default_rng(1).normal(size=weight.shape))
    network.save(folder / "network.keras")
    encoder = network.get_layer("sit_encoder")
    encoder.save(folder / "encoder.keras")
    write_settings(folder, dataclasses.replace(recipe("digits"), model=CONFIG))
    build_classifier(encoder, len(NAMES), class_names=NAMES).save(folder / "classifier.keras")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def version(run):
    return export(run, run.parent / "exports" / "small", check=False)


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(5)
    pixels = [random.integers(0, 256, (7, 30, 44, 3), dtype=np.uint8)]
    return pixels[0], [encode(image, "PNG") for image in pixels[0]]


def assert_close(ours, theirs, atol=1e-5):
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=atol, err_msg=name)


def test_every_signature_is_the_keras_model(run, version, pictures):
    pixels, files = pictures
    images = pixels.astype("float32") / 255
    functions = tf.saved_model.load(str(version)).signatures
    assert set(functions) == SIGNATURES
    expected = keras_outputs(_load(run, None), images)
    assert_close(functions["serving_bytes"](tf.constant(files)), expected["serving_default"])
    assert_close(functions["classify_bytes"](tf.constant(files)), expected["classify"])
    for name, outputs in expected.items():
        assert_close(functions[name](tf.constant(images)), outputs)
        for count in (0, 1):
            part = functions[name](tf.constant(images[:count]))
            assert_close(part, {key: value[:count] for key, value in outputs.items()})
            assert all(len(value) == count for value in part.values())


def test_the_best_classes_have_their_names(version, pictures):
    outputs = tf.saved_model.load(str(version)).signatures["classify_bytes"](
        tf.constant([*pictures[1], b"no image"])
    )
    probabilities = outputs["probabilities"].numpy()
    order = np.argsort(-probabilities[:-1], axis=1)[:, :5]
    expected = np.array(NAMES)[order]
    np.testing.assert_array_equal(outputs["top_classes"].numpy()[:-1].astype(str), expected)
    np.testing.assert_array_equal(outputs["ok"], [True] * 7 + [False])
    assert outputs["error"].numpy()[-1] == b"neither JPEG nor PNG"
    np.testing.assert_array_equal(probabilities[-1], 0)


def test_rotations_are_undone(run, version):
    """`upright_angle` counts the other way round than the label that was predicted."""
    function = tf.saved_model.load(str(version)).signatures["predict_rotation"]
    images = np.random.default_rng(0).random((40, 16, 16, 3)).astype("float32")
    outputs = function(tf.constant(images))
    turns = outputs["probabilities"].numpy().argmax(axis=1)
    np.testing.assert_array_equal((outputs["upright_angle"].numpy() + 90 * turns) % 360, 0)
    assert len(set(turns)) > 1


def test_a_fused_head_is_the_mean_of_two(random):
    head = build_classifier(build_encoder(CONFIG), 6).get_layer("classifier")
    tokens = {name: random.normal(size=(9, 24)).astype("float32") for name in head.tokens}
    both = np.concatenate([tokens["rotation"], tokens["contrastive"]], axis=1)
    np.testing.assert_allclose(fuse(head)(both), head(tokens), atol=1e-6)


@pytest.mark.slow
def test_a_head_with_a_hidden_layer(run, tmp_path, pictures):
    encoder = keras.saving.load_model(run / "encoder.keras")
    model = build_classifier(encoder, 4, hidden_dim=7)
    model.save(tmp_path / "two.keras")
    version = export(run, tmp_path / "out", classifier=tmp_path / "two.keras", check=False)
    images = tf.constant(pictures[0] / np.float32(255))
    expected = keras_outputs(_load(run, tmp_path / "two.keras"), images)["classify"]
    outputs = tf.saved_model.load(str(version)).signatures["classify"](images)
    assert_close(outputs, expected)
    assert set(outputs["top_classes"].numpy().ravel()) <= {b"0", b"1", b"2", b"3"}


@pytest.mark.slow
def test_versions_count_and_nobody_sees_half_of_one(run, tmp_path, monkeypatch):
    encoder = run / "encoder.keras"
    (tmp_path / "out" / ".writing-old").mkdir(parents=True)
    assert [export(encoder, tmp_path / "out", check=False).name for _ in range(2)] == ["1", "2"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "1", "2"]
    contract = json.loads((tmp_path / "out" / "1" / "assets" / "contract.json").read_text())
    assert set(contract["signatures"]) == {"serving_default", "serving_bytes", "patches"}

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("sit_keras.export.write_warmup", full)
    with pytest.raises(OSError, match="No space"):
        export(encoder, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "1", "2"]


KILLED = """
import os, signal, sys
import sit_keras.export
sit_keras.export.write_warmup = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sit_keras.export.export(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_no_version(run, tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, run, tmp_path / "out"])
    assert process.returncode == -signal.SIGKILL
    _, left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left.startswith(".writing-")
    assert export(run / "encoder.keras", tmp_path / "out", check=False).name == "1"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "1"]


def test_the_contract_says_what_a_stranger_must_know(version):
    contract = json.loads((version / "assets" / "contract.json").read_text())
    assert contract["class_names"] == list(NAMES)
    assert contract["model"]["hidden_dim"] == 24 and contract["source"]["preset"] == "digits"
    assert contract["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
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


def test_warm_up_requests_are_answered(version):
    functions = tf.saved_model.load(str(version)).signatures
    asked = []
    for record in tf.data.TFRecordDataset(
        str(version / "assets.extra" / "tf_serving_warmup_requests")
    ):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        name = request.model_spec.signature_name
        ((key, value),) = request.inputs.items()
        outputs = functions[name](**{key: tf.constant(tf.make_ndarray(value))})
        asked.append((name, len(next(iter(outputs.values())))))
        assert "ok" not in outputs or outputs["ok"].numpy().all()
    assert sorted(asked) == sorted((name, count) for name in SIGNATURES for count in (1, 8))


@pytest.mark.slow
def test_verification_finds_a_weight_that_was_changed(run, tmp_path):
    version = export(run, tmp_path / "out", check=False)
    said = verify_export(version)
    assert "classify_bytes" in said and "files as exported" in said
    data = version / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    floats = np.frombuffer(content, "float32", count=len(content) // 4)
    place = 4 * int(np.argmax((np.abs(floats) > 0.05) & (np.abs(floats) < 1)))
    content[place : place + 4] = np.float32(1.7).tobytes()
    data.write_bytes(content)
    with pytest.raises(ValueError, match="not those that were exported: variables/variables.data"):
        verify_export(version)


@pytest.mark.slow
@pytest.mark.parametrize("wrong, complaint", [(1e-3, "off its examples"), (np.nan, "off its|not")])
def test_verification_compares_with_the_examples(run, tmp_path, wrong, complaint):
    version = export(run / "encoder.keras", tmp_path / "out", check=False)
    examples = dict(np.load(version / "assets" / "examples.npz"))
    examples["patches/patches"][1, 2, 3] += wrong
    np.savez(version / "assets" / "examples.npz", **examples)
    sums = version / "assets.extra" / "checksums.json"
    sums.write_text(json.dumps(verify.checksums(version)))
    with pytest.raises(ValueError, match=f"failed: .*patches.*({complaint})"):
        verify_export(version)


@pytest.mark.slow
def test_half_precision(run, version, tmp_path, pictures):
    half = export(run, tmp_path / "half", half=True)  # verified, as by default
    files = "variables/variables.data-00000-of-00001"
    share = (half / files).stat().st_size / (version / files).stat().st_size
    assert 0.45 < share < 0.6
    embeddings = [
        tf.saved_model.load(str(each)).signatures["serving_bytes"](tf.constant(pictures[1]))
        for each in (version, half)
    ]
    cosines = np.sum(embeddings[0]["embedding"] * embeddings[1]["embedding"], axis=1)
    assert 0.999 < cosines.min() < 1 - 1e-9
    assert json.loads((half / "assets" / "contract.json").read_text())["weights"] == "float16"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tflite(version, pictures):
    path = export_tflite(version)
    assert path.name == "encoder-1.tflite"
    one = tf.lite.Interpreter(str(path)).get_signature_runner()
    images = pictures[0][:1, :16, :16] / np.float32(255)
    function = tf.saved_model.load(str(version)).signatures["serving_default"]
    assert_close(one(images=images), function(tf.constant(images)))


@pytest.mark.slow
def test_heads_that_learnt_nothing_are_left_out(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    config = dataclasses.replace(recipe("digits"), model=CONFIG, tasks=("rotation", "contrastive"))
    write_settings(folder, config)
    version = export(folder, tmp_path / "out", check=False)
    contract = json.loads((version / "assets" / "contract.json").read_text())
    assert set(contract["signatures"]) == SIGNATURES - {"reconstruct"}


@pytest.mark.slow
def test_a_classifier_of_another_encoder_is_passed_over(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    build_classifier(build_encoder(CONFIG), 3).save(folder / "classifier.keras")
    version = export(folder, tmp_path / "out", check=False)
    assert "so the export has no classes" in capsys.readouterr().out
    contract = json.loads((version / "assets" / "contract.json").read_text())
    assert "classify" not in contract["signatures"] and contract["class_names"] == []


def test_where_versions_go():
    places = {
        "runs/digits-digits-seed0": "digits-digits-seed0",
        "runs/my.photos-v2.1": "my.photos-v2.1",
        "runs/a/encoder.keras": "a",
        "b/other.keras": "other",
        "runs/a/evaluation/digits/finetune": "a-digits-finetune",
    }
    for run, name in places.items():
        assert export_folder(run) == pathlib.Path("exports") / name


def test_what_cannot_be_exported(run, tmp_path):
    with pytest.raises(ValueError, match="No encoder at"):
        export(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(ValueError, match="No classifier at"):
        export(run, tmp_path / "out", classifier=tmp_path / "nothing.keras")
    build_classifier(build_encoder(CONFIG), 3).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="encoder of .*other.keras is not that of"):
        export(run, tmp_path / "out", classifier=tmp_path / "other.keras")
    build_encoder(dataclasses.replace(CONFIG, image_size=(16, 24))).save(tmp_path / "wide.keras")
    with pytest.raises(ValueError, match="must be square; received 16x24"):
        export(tmp_path / "wide.keras", tmp_path / "out")
    with pytest.raises(ValueError, match="failed: "):
        verify_export(tmp_path)
    assert not (tmp_path / "out").exists()


def test_photos_that_lie_on_their_side(version, tmp_path, random, capsys):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    paths = [folder / "deep" / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (20, 31, 3), dtype=np.uint8)).save(path)
    (folder / "broken.jpg").write_bytes(b"no image")
    before = {path: path.read_bytes() for path in paths}
    found = orient(folder, version, confidence=0.0, write=tmp_path / "upright")
    assert found and {path: path.read_bytes() for path in paths} == before
    assert "broken.jpg cannot be read" in capsys.readouterr().err
    for each in found:
        original = pathlib.Path(each["path"])
        copy = np.asarray(Image.open(tmp_path / "upright" / original.relative_to(folder)))
        turned = np.rot90(np.asarray(Image.open(original)), -each["turn"] // 90)
        np.testing.assert_array_equal(copy, turned)
    assert len(list((tmp_path / "upright").rglob("*.png"))) == len(found)
    sure = [each["confidence"] for each in found]
    assert sure == sorted(sure, reverse=True)
    orient_main([str(folder), f"--model={version}", "--confidence=0.999"])
    assert "0 images do not stand upright" in capsys.readouterr().out
    with pytest.raises(ValueError, match="lie within each other"):
        orient(folder, version, write=folder / "upright")
    with pytest.raises(ValueError, match="lie within each other"):
        orient(folder, version, write=tmp_path)
    with pytest.raises(ValueError, match="is not empty"):
        orient(folder, version, write=tmp_path / "upright")
    with pytest.raises(ValueError, match="No exported model in"):
        orient(folder, tmp_path)
    with pytest.raises(ValueError, match="No folder"):
        orient(tmp_path / "none", version)


@pytest.mark.slow
def test_outliers_come_first(run, version, tmp_path, capsys):
    """Flat images are restored differently from noise; the ranking is by the model's own error."""
    for i in range(4):
        flat = np.full((16, 16, 3), 60 * i, dtype=np.uint8)
        Image.fromarray(flat).save(tmp_path / f"{i}.png")
    outliers_main([str(tmp_path), f"--model={version}", f"--sheet={tmp_path / 'sheet.png'}"])
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[0]) for line in lines[:4]]
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1]
    images = np.stack([np.asarray(Image.open(line.split()[1])) for line in lines[:4]])
    expected = keras_outputs(_load(run, None), images / np.float32(255))["reconstruct"]["error"]
    np.testing.assert_allclose(errors, expected, atol=1e-4)
    assert Image.open(tmp_path / "sheet.png").width > 300
    encoder_only = export(run / "encoder.keras", tmp_path / "out", check=False)
    with pytest.raises(ValueError, match="has no reconstruct, only"):
        outliers_main([str(tmp_path), f"--model={encoder_only}"])


C_PROCESS = """
import sys
import numpy as np
from c_loader import CModel
model = CModel(sys.argv[1])
inputs = dict(np.load(sys.argv[2], allow_pickle=True))
results = {}
for name in model.signatures:
    for count in (0, 1, 7):
        value = list(inputs["files"][:count]) if "bytes" in name else inputs["images"][:count]
        for key, array in model.run(name, value).items():
            results[f"{name}/{count}/{key}"] = array
assert not {"tensorflow", "keras", "sit_keras"} & set(sys.modules)
np.savez(sys.argv[3], **results)
"""


@pytest.mark.slow
def test_through_the_loader_of_tf_serving(run, version, pictures, tmp_path):
    pixels, files = pictures
    images = pixels / np.float32(255)
    np.savez(tmp_path / "in.npz", images=images, files=np.array(files, dtype=object))
    arguments = [version, tmp_path / "in.npz", tmp_path / "out.npz"]
    result = subprocess.run(
        [sys.executable, "-c", C_PROCESS, *arguments], cwd=ROOT / "tests",
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    outputs = dict(np.load(tmp_path / "out.npz", allow_pickle=True))
    expected = keras_outputs(_load(run, None), images)
    expected["serving_bytes"] = expected["serving_default"]
    expected["classify_bytes"] = expected["classify"]
    assert {key.split("/")[0] for key in outputs} == SIGNATURES
    for name in SIGNATURES:
        for count in (0, 1, 7):
            for key, value in expected[name].items():
                ours = outputs[f"{name}/{count}/{key}"]
                np.testing.assert_allclose(ours, value[:count], atol=1e-5)
    assert outputs["classify_bytes/7/ok"].all()


@pytest.mark.slow
def test_through_saved_model_cli(run, version, pictures, tmp_path):
    images = pictures[0] / np.float32(255)
    np.save(tmp_path / "in.npy", images)
    script = pathlib.Path(sys.executable).parent / "saved_model_cli"
    subprocess.run(
        [script, "run", "--dir", version, "--tag_set", "serve", "--signature_def",
         "serving_default", "--inputs", f"images={tmp_path / 'in.npy'}", "--outdir", tmp_path],
        check=True, capture_output=True,
    )  # fmt: skip
    expected = keras_outputs(_load(run, None), images)["serving_default"]
    for name, value in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, atol=1e-5)


@pytest.fixture(scope="module")
def server(version):
    """The version behind gRPC and REST, on the C++ loader."""
    ports = free_ports(2)
    process = subprocess.Popen(
        [sys.executable, "serving_stand_in.py", version, *map(str, ports)],
        cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "serving\n"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports[1])) == 0:
                    break
            time.sleep(0.1)
        yield process, *(f"127.0.0.1:{port}" for port in ports)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("by_grpc", [False, True])
def test_the_client(run, server, by_grpc, pictures, tmp_path, capsys):
    pixels, files = pictures
    address = server[1] if by_grpc else server[2]
    outputs = client.predict(address, "sit", "serving_bytes", files * 6, by_grpc)  # two batches
    expected = keras_outputs(_load(run, None), pixels / np.float32(255))
    for name, value in expected["serving_default"].items():
        np.testing.assert_allclose(outputs[name], np.tile(value, (6, 1)), atol=1e-5)

    for i, file in enumerate(files[:3]):
        (tmp_path / f"{i}.png").write_bytes(file)
    sideways = Image.Exif()
    sideways[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(pixels[3])).save(tmp_path / "3.tiff", exif=sideways)
    protocol = ["--grpc"] if by_grpc else []
    arguments = [str(tmp_path), f"--server={address}", *protocol]
    client.main([*arguments, f"--output={tmp_path / 'out.npz'}"])
    saved = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(
        saved["embedding"], expected["serving_default"]["embedding"][:4], atol=1e-5
    )
    client.main([*arguments, "--classes"])
    best = NAMES[int(expected["classify"]["logits"][0].argmax())]
    client.main([*arguments, "--neighbours=2"])
    out = capsys.readouterr().out
    assert f"{tmp_path / '0.png'}: {best} " in out
    assert str(tmp_path / "out.npz") in out
    with pytest.raises(OSError, match="no_such"):
        client.predict(address, "sit", "no_such", files, by_grpc)


@pytest.mark.slow
def test_the_ready_requests(server):
    """Those of serving/ are understood, and both give one embedding."""
    text = (ROOT / "serving" / "request.textproto").read_text()
    request = text_format.Parse(text, predict_pb2.PredictRequest())
    with grpc.insecure_channel(server[1]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        by_grpc = tf.make_ndarray(stub.Predict(request).outputs["embedding"])
    body = (ROOT / "serving" / "request.json").read_bytes()
    url = f"http://{server[2]}/v1/models/sit:predict"
    with urllib.request.urlopen(urllib.request.Request(url, body)) as response:
        by_rest = json.load(response)["outputs"]["embedding"]
    np.testing.assert_allclose(by_grpc, by_rest, atol=1e-6)
    assert np.linalg.norm(by_grpc) == pytest.approx(1, abs=1e-5)


def test_the_servers_settings():
    text = (ROOT / "serving" / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("sit", "/models/sit")
    compose = (ROOT / "serving" / "compose.yml").read_text()
    assert ":/models/sit:ro" in compose
    for name in ("models", "batching", "monitoring"):
        assert f"./{name}.config:/config/{name}.config:ro" in compose
        assert (ROOT / "serving" / f"{name}.config").exists()


@pytest.mark.slow
def test_a_server_that_is_not_there(pictures):
    (port,) = free_ports(1)
    for by_grpc, complaint in ((False, "cannot be reached"), (True, "UNAVAILABLE")):
        with pytest.raises(OSError, match=complaint):
            client.predict(f"127.0.0.1:{port}", "sit", "serving_bytes", pictures[1], by_grpc)


def resident(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


@pytest.mark.slow
def test_a_server_outlives_strangers(server, pictures):
    """Two thousand mixed requests; nothing stays behind."""
    process, address, _ = server
    good = pictures[1][0]
    grey = np.zeros((3, 3), np.uint8)
    mixed = [good, b"", good[:50], encode(grey, "GIF"), encode(grey, "PNG"), b"\xff\xd8\xff" * 9]
    for turn in range(2000):
        outputs = client.predict(address, "sit", "serving_bytes", mixed, grpc=True)
        assert outputs["ok"].tolist() == [True, False, False, False, True, False]
        if turn == 500:
            before = resident(process)
    assert resident(process) < before + 20
    assert process.poll() is None


def linear_head(features, labels):
    """A head as a notebook would train it."""
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(features)
    model = keras.Sequential([scale, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    model.fit(features, labels, batch_size=256, epochs=40, verbose=0)
    return model


@pytest.mark.slow
def test_a_linear_head_on_the_savedmodel(tmp_path):
    """Through Keras' TFSMLayer, on the digits: as good as on the encoder itself."""
    source = load_source("digits")
    encoder = build_encoder(recipe("digits").model)
    encoder.save(tmp_path / "encoder.keras")
    version = export(tmp_path / "encoder.keras", tmp_path / "out", check=False)
    layer = keras.layers.TFSMLayer(str(version), call_endpoint="serving_default", trainable=False)
    inputs = keras.Input((None, None, 3))
    tokens = layer(inputs)
    both = keras.layers.Concatenate()([tokens["rotation_token"], tokens["contrastive_token"]])
    model = keras.Model(inputs, both)
    native = FrozenFeatures(encoder)
    accuracies = []
    for features in (
        lambda images: model.predict(images.items / np.float32(255), verbose=0),
        lambda images: select_features(native.of(images, 0.875), "tokens"),
    ):
        head = linear_head(features(source.train), source.train.labels)
        _, accuracy = head.evaluate(features(source.test), source.test.labels, verbose=0)
        accuracies.append(accuracy)
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.005)
    assert accuracies[0] > 0.6
