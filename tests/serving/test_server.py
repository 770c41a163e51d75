"""An export behind a server: by the C++ loader of TF Serving, over REST and gRPC."""

import json
import pathlib
import subprocess
import sys
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, free_ports
from google.protobuf import text_format
from PIL import Image
from serving_case import NAMES, SIGNATURES, encode
from stand_in_process import stand_in
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from sit_keras.cli.main import call
from sit_keras.serving import client

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
def test_through_the_loader_of_tf_serving(
    exported, expected_outputs, unit_pictures, picture_files, tmp_path
):
    files = np.array(picture_files, dtype=object)
    np.savez(tmp_path / "in.npz", images=unit_pictures, files=files)
    arguments = [exported, tmp_path / "in.npz", tmp_path / "out.npz"]
    result = subprocess.run(
        [sys.executable, "-c", C_PROCESS, *arguments], cwd=ROOT / "tests",
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    outputs = dict(np.load(tmp_path / "out.npz", allow_pickle=True))
    assert {key.split("/")[0] for key in outputs} == SIGNATURES
    for name in SIGNATURES:
        for count in (0, 1, 7):
            for key, value in expected_outputs[name].items():
                ours = outputs[f"{name}/{count}/{key}"]
                np.testing.assert_allclose(ours, value[:count], atol=1e-5)
    assert outputs["classify_bytes/7/ok"].all()


@pytest.mark.slow
def test_through_saved_model_cli(exported, expected_outputs, unit_pictures, tmp_path):
    np.save(tmp_path / "in.npy", unit_pictures)
    script = pathlib.Path(sys.executable).parent / "saved_model_cli"
    subprocess.run(
        [script, "run", "--dir", exported, "--tag_set", "serve", "--signature_def",
         "serving_default", "--inputs", f"images={tmp_path / 'in.npy'}", "--outdir", tmp_path],
        check=True, capture_output=True,
    )  # fmt: skip
    for name, value in expected_outputs["serving_default"].items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, atol=1e-5)


@pytest.fixture(scope="module")
def server(exported):
    """The version behind gRPC and REST by the settings of `serving`: process and addresses."""
    with stand_in(ROOT / "serving" / "models.config", exported.parent) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("by_grpc", [False, True])
def test_the_client(server, by_grpc, expected_outputs, pictures, picture_files, tmp_path, capsys):
    address = server[1] if by_grpc else server[2]
    outputs = client.predict(address, "sit", "serving_bytes", picture_files * 6, by_grpc)
    embeddings = expected_outputs["serving_default"]
    for name, value in embeddings.items():  # of two batches
        np.testing.assert_allclose(outputs[name], np.tile(value, (6, 1)), atol=1e-5)

    for i, file in enumerate(picture_files[:3]):
        (tmp_path / f"{i}.png").write_bytes(file)
    sideways = Image.Exif()
    sideways[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(pictures[3])).save(tmp_path / "3.tiff", exif=sideways)
    protocol = ["--grpc"] if by_grpc else []
    arguments = [str(tmp_path), f"--server={address}", *protocol]
    call("client", [*arguments, f"--output={tmp_path / 'out.npz'}"])
    saved = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(saved["embedding"], embeddings["embedding"][:4], atol=1e-5)
    call("client", [*arguments, "--classes"])
    best = NAMES[int(expected_outputs["classify"]["logits"][0].argmax())]
    call("client", [*arguments, "--neighbours=2"])
    out = capsys.readouterr().out
    assert f"{tmp_path / '0.png'}: {best} " in out
    assert str(tmp_path / "out.npz") in out
    with pytest.raises(OSError, match="no_such"):
        client.predict(address, "sit", "no_such", picture_files, by_grpc)


@pytest.mark.slow
def test_the_ready_requests_are_understood_and_give_one_embedding(server):
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


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named(picture_files):
    (port,) = free_ports(1)
    for by_grpc, complaint in ((False, "cannot be reached"), (True, "UNAVAILABLE")):
        with pytest.raises(OSError, match=complaint):
            client.predict(f"127.0.0.1:{port}", "sit", "serving_bytes", picture_files, by_grpc)


def resident(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(2_000, marks=pytest.mark.slow),
        pytest.param(10_000, marks=pytest.mark.endurance),
    ],
)
def test_thousands_of_mixed_requests_leave_nothing_behind(server, picture_files, requests):
    process, address, _ = server
    good = picture_files[0]
    grey = np.zeros((3, 3), np.uint8)
    mixed = [good, b"", good[:50], encode(grey, "GIF"), encode(grey, "PNG"), b"\xff\xd8\xff" * 9]
    for turn in range(requests):
        outputs = client.predict(address, "sit", "serving_bytes", mixed, grpc=True)
        assert outputs["ok"].tolist() == [True, False, False, False, True, False]
        if turn == 500:
            before = resident(process)
    assert resident(process) < before + 20
    assert process.poll() is None
