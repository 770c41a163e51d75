"""The client by gRPC, against the real stubs: what a server says, and what a user reads."""

import concurrent.futures
import contextlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conftest import free_ports
from rest_stand_in import make_certificate, save_images, sending, serving
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from sit_keras.serving import replies, retries
from sit_keras.serving.client import SomeFailed, ask_server, predict_grpc, predict_rest

FILE = b"\x89PNG"
Code = grpc.StatusCode


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers with an embedding for each file; `reply` may be replaced."""

    def __init__(self):
        self.requests = []
        self.reply = lambda number, count, context: self.embeddings(count)

    def Predict(self, request, context):
        count = request.inputs["image_bytes"].tensor_shape.dim[0].size
        self.requests.append((request.model_spec, count))
        outputs = self.reply(len(self.requests), count, context)
        response = predict_pb2.PredictResponse()
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response

    def embeddings(self, count, width=40):
        error = np.array([b""] * count, dtype=object)
        return {"ok": np.ones(count, bool), "error": error, "embedding": np.eye(count, width)}


@contextlib.contextmanager
def grpc_server(credentials=None):
    service = Predictions()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    service.address = f"127.0.0.1:{port}"
    try:
        yield service
    finally:
        server.stop(None).wait()


@pytest.fixture
def server():
    with grpc_server() as service:
        yield service


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(retries, "_DELAY", 0.01)


@pytest.fixture
def photos(tmp_path):
    save_images(tmp_path / "photos", 5)
    return tmp_path / "photos"


def test_the_model_and_its_version_are_asked_for(server, photos):
    outputs = ask_server([photos], server.address, model="m", version=7, grpc=True)
    ((asked, count),) = server.requests
    assert (asked.name, asked.version.value, count) == ("m", 7, 5)
    assert outputs["embedding"].shape == (5, 40)
    ask_server([photos], server.address, grpc=True)
    assert server.requests[-1][0].WhichOneof("version_choice") is None
    ask_server([photos], server.address, label="canary", grpc=True)
    asked, _ = server.requests[-1]
    assert asked.version_label == "canary" and not asked.HasField("version")


STATUSES = {
    Code.INVALID_ARGUMENT: (replies.RequestRefused, "it refuses the request"),
    Code.NOT_FOUND: (replies.WrongServer, "check --model, --version and --label"),
    Code.UNIMPLEMENTED: (replies.WrongServer, "no gRPC port of TF Serving"),
    Code.UNAUTHENTICATED: (replies.WrongServer, "asks for a login"),
    Code.RESOURCE_EXHAUSTED: (replies.Busy, "cannot answer now"),
    Code.INTERNAL: (replies.ServerError, "look into the server's log"),
    Code.UNAVAILABLE: (replies.Unreachable, "is it serving"),
}


@pytest.mark.parametrize("code", STATUSES, ids=lambda code: code.name)
def test_a_status_ends_in_a_sentence(server, code):
    kind, sentence = STATUSES[code]
    server.reply = lambda i, count, context: context.abort(code, "why\n not \x1b[31m")
    with pytest.raises(OSError, match=f"{code.name}, why not .*{sentence}") as caught:
        predict_grpc(server.address, "sit", "serving_bytes", [FILE])
    assert type(caught.value) is kind
    assert str(caught.value).startswith(server.address) and str(caught.value).isprintable()


def test_a_signature_that_is_missing_is_named_with_what_it_needs(server):
    words = 'Serving signature key "classify_bytes" not found.'
    server.reply = lambda i, count, context: context.abort(Code.FAILED_PRECONDITION, words)
    with pytest.raises(replies.WrongServer, match="needs an export with a classifier"):
        predict_grpc(server.address, "sit", "classify_bytes", [FILE])


def test_a_label_that_no_version_has_is_named(server):
    words = "Unrecognized servable version label: next"
    server.reply = lambda i, count, context: context.abort(Code.INVALID_ARGUMENT, words)
    with pytest.raises(replies.WrongServer, match="check --label"):
        predict_grpc(server.address, "sit", "serving_bytes", [FILE], label="next")


def test_outputs_of_another_shape_end_in_a_sentence(server):
    for outputs, sentence in [
        ({}, "expected 'ok' among them"),
        (server.embeddings(2), "one row for each of 1 images"),
        ({**server.embeddings(1), "embedding": np.zeros(1)}, "a row of numbers for each image"),
        ({**server.embeddings(1), "ok": np.zeros(1)}, "true or false"),
        ({**server.embeddings(1), "error": np.zeros(1)}, "a text for each image"),
    ]:
        server.reply = lambda i, count, context, outputs=outputs: outputs
        with pytest.raises(replies.ServerError, match=sentence):
            predict_grpc(server.address, "sit", "serving_bytes", [FILE])


def test_a_text_that_is_no_utf8_is_shown_all_the_same(server, photos):
    def reply(i, count, context):
        outputs = server.embeddings(count)
        return {**outputs, "ok": ~outputs["ok"], "error": np.array([b"caf\xe9"] * count, object)}

    server.reply = reply
    with pytest.raises(SomeFailed, match="5 refused by the server") as caught:
        ask_server([photos], server.address, grpc=True)
    assert caught.value.outputs["error"][0] == "caf\\xe9"


def test_a_reply_larger_than_grpc_takes_by_itself_arrives(server):
    server.reply = lambda i, count, context: server.embeddings(count, 1 << 20)  # 8 MiB
    outputs = predict_grpc(server.address, "sit", "serving_bytes", [FILE])
    assert outputs["embedding"].shape == (1, 1 << 20)


def test_a_busy_server_is_asked_again(server, photos, capsys):
    def reply(i, count, context):
        return context.abort(Code.UNAVAILABLE, "later") if i < 3 else server.embeddings(count)

    server.reply = reply
    ask_server([photos], server.address, grpc=True)
    assert len(server.requests) == 3
    first, second = capsys.readouterr().err.splitlines()
    assert "(1 of 3)" in first and "(2 of 3)" in second


def test_a_request_that_is_refused_is_divided(server, photos, capsys):
    def reply(i, count, context):
        if count > 2:
            context.abort(Code.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)")
        if i == 3:
            context.abort(Code.INVALID_ARGUMENT, "odd")
        return server.embeddings(count)

    server.reply = reply  # 5 are 2 and 3; the 2, when asked for, are 1 and 1; the 3 are 1 and 2
    assert len(ask_server([photos], server.address, grpc=True)["ok"]) == 5
    assert [count for _, count in server.requests][:3] == [5, 2, 3]


def test_the_timeout_bounds_a_request(photos):
    with sending(b"", rest=b"") as address, pytest.raises(OSError, match="--timeout|serving"):
        predict_grpc(address, "sit", "serving_bytes", [FILE], timeout=1)


def test_a_server_that_is_not_there_ends_in_a_sentence():
    (port,) = free_ports(1)
    with pytest.raises(replies.Unreachable, match="UNAVAILABLE.*refused.*is it serving"):
        predict_grpc(f"127.0.0.1:{port}", "sit", "serving_bytes", [FILE])
    with pytest.raises(replies.WrongServer, match="no machine has this name"):
        predict_grpc("no.such.host.invalid:1", "sit", "serving_bytes", [FILE])


def test_the_two_ports_are_told_apart(server, photos):
    with pytest.raises(replies.WrongServer, match="something else than HTTP.*--grpc"):
        predict_rest(server.address, "sit", "serving_bytes", [FILE])
    with serving() as rest, pytest.raises(SomeFailed, match="speaks no gRPC.*8500"):
        ask_server([photos], rest.address, grpc=True)


def test_tls(photos, tmp_path, monkeypatch):
    certificate = make_certificate(tmp_path)
    public, private = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials([(private, public)])
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate[0]))
    with grpc_server(credentials) as server:
        outputs = ask_server([photos], f"https://{server.address}", grpc=True)
        assert outputs["ok"].all()
        with pytest.raises(replies.Unreachable, match="needs https:// before its address"):
            predict_grpc(server.address, "sit", "serving_bytes", [FILE])
    with grpc_server() as plain, pytest.raises(replies.WrongServer, match="by TLS"):
        predict_grpc(f"https://{plain.address}", "sit", "serving_bytes", [FILE])
