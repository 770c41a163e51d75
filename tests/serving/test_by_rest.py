"""Whatever a REST port answers ends in arrays, or in a sentence that names the server."""

import contextlib
import json
import socket
import ssl
import threading
import time

import pytest
from conftest import free_ports
from rest_stand_in import (
    RestServer,
    answer,
    failure,
    make_certificate,
    save_images,
    sending,
    serving,
)

from sit_keras.serving import replies
from sit_keras.serving.client import SomeFailed, ask_server, predict_rest

SENT = {"signature": "serving_bytes", "files": [b"\x89PNG"]}


@pytest.fixture
def server():
    with serving() as running:
        yield running


def http_reply(body, head="200 OK", **headers):
    headers = {"Content_Length": len(body), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {head}\r\n{lines}\r\n".encode() + body


def outputs_reply(**changes):
    """The reply to one image, with other outputs; None leaves one out."""
    outputs = {"ok": [True], "error": [""], "embedding": [[1.0, 0.0]], **changes}
    outputs = {name: value for name, value in outputs.items() if value is not None}
    return http_reply(json.dumps({"outputs": outputs}).encode())


GARBAGE = {
    "a gRPC port": (bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5, 0, 0]), "else than HTTP.*--grpc"),
    "an SSH port": (b"SSH-2.0-OpenSSH_9.6\r\n", "something else than HTTP"),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x16", "something else than HTTP.*https://"),
    "nothing": (b"", "closed the connection without an answer"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "no JSON"),
    "a broken-off body": (http_reply(b'{"outputs"', Content_Length=900), "broke off .* 10 bytes"),
    "a broken-off chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n900\r\n{", "broke off its reply"
    ),
    "chunks of odd lengths": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{", "broke off its reply"
    ),
    "an endless line": (b"HTTP/1.1 200 " + b"x" * 70_000, "something else than HTTP"),
    "a hundred heads": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, "something else than HTTP"),
    "an empty body": (http_reply(b""), r"sent no JSON \(nothing\)"),
    "a page of HTML": (http_reply(b"<html>Log in"), "page of HTML, perhaps of a proxy: <html>Log"),
    "bytes": (http_reply(b"\x1f\x8b\xff\x00"), "sent no JSON"),
    "half a JSON": (http_reply(b'{"outputs": {'), "sent no JSON"),
    "deep JSON": (http_reply(b"[" * 100_000), "sent no JSON"),
    "a list": (http_reply(b"[1, 2]"), r'sent \[1, 2\], expected JSON with "outputs"'),
    "null": (http_reply(b"null"), "sent null"),
    "no outputs": (http_reply(b"{}"), r"sent \{\}, expected"),
    "an error with status 200": (http_reply(b'{"error": "x"}'), "expected JSON with"),
    "rows instead of columns": (http_reply(b'{"predictions": [1]}'), "expected JSON with"),
    "one output without its name": (http_reply(b'{"outputs": [[1]]}'), "outputs that are a list"),
    "null as outputs": (http_reply(b'{"outputs": null}'), "outputs that are a NoneType"),
    "no ok": (outputs_reply(ok=None), "expected 'ok' among them"),
    "no error": (outputs_reply(error=None), "expected 'error' among them"),
    "no embedding": (outputs_reply(embedding=None), "expected 'embedding' among them"),
    "too many rows": (outputs_reply(embedding=[[1], [2]]), r"one row for each of 1 images"),
    "no rows": (outputs_reply(ok=[]), r"'ok' of shape \(0,\)"),
    "a number for ok": (outputs_reply(ok=True), r"'ok' of shape \(\)"),
    "rows of several lengths": (outputs_reply(extra=[[1, [2]]]), "that is no array"),
    "words for numbers": (outputs_reply(embedding=[["a", "b"]]), "expected a row of numbers"),
    "a number beyond all": (outputs_reply(embedding=[[10**400, 0.5]]), "expected"),
    "an object for numbers": (outputs_reply(embedding=[{"a": 1}]), "expected a row of numbers"),
    "nothing for a number": (outputs_reply(embedding=[[None, 1]]), "expected a row of numbers"),
    "a flat embedding": (outputs_reply(embedding=[1.0]), "expected a row of numbers"),
    "numbers for ok": (outputs_reply(ok=[1]), "'ok' as int64.*true or false"),
    "numbers for error": (outputs_reply(error=[0]), "expected a text for each image"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_reply_that_is_none_ends_in_a_sentence_that_names_the_server(kind):
    reply, sentence = GARBAGE[kind]
    with sending(reply) as address, pytest.raises(OSError, match=sentence) as caught:
        predict_rest(address, "sit", **SENT, timeout=20)
    assert str(caught.value).startswith(f"{address} ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("names, shares", [([["a", "b"]], [[1.0]]), ([[1]], [[1.0]])])
def test_classes_of_another_shape_end_in_a_sentence(names, shares):
    reply = outputs_reply(top_classes=names, top_probabilities=shares)
    with sending(reply) as address, pytest.raises(OSError, match="expected a"):
        predict_rest(address, "sit", "classify_bytes", [b"\x89PNG"])


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("extra", [[["a"]], [[None]], [[1.0, 2.0]], ["x"]], ids=str)
def test_what_belongs_to_another_question_is_left_out(classes, extra, server, tmp_path, capsys):
    names = ["embedding"] if classes else ["top_classes", "top_probabilities"]

    def reply(number, asked):
        status, head, body = answer(asked)
        outputs = json.loads(body)["outputs"]
        more = {names[number % len(names)]: extra, "rotation_token": [[1.0, 2.0]]}
        return status, head, json.dumps({"outputs": {**outputs, **more}}).encode()

    server.reply = reply
    images = save_images(tmp_path / "images", 1)
    for _ in range(2):
        outputs = ask_server(images, server.address, classes=classes)
        kept = {"top_classes", "top_probabilities"} if classes else {"embedding"}
        assert set(outputs) == {"paths", "ok", "error", "rotation_token", *kept}
        assert ("owl 75.0%" in capsys.readouterr().out) == classes


STATUSES = {
    301: "sends its visitors on to https://elsewhere: give the address there",
    308: "sends its visitors on to https://elsewhere",
    400: r"answered 400 \(why not\): it refuses the request",
    401: "asks for a login",
    403: "does not let this client in",
    404: "check --model, --version and --label",
    405: "no REST port",
    413: "it refuses the request",
    418: "look into the server's log",
    429: "cannot answer now",
    500: r"answered 500 \(why not\): look into the server's log",
    503: "cannot answer now",
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_ends_in_a_sentence(server, status):
    server.reply = lambda *_: failure(status, "why not", Location="https://elsewhere")
    with pytest.raises(OSError, match=STATUSES[status]) as caught:
        predict_rest(server.address, "sit", **SENT)
    assert str(caught.value).startswith(server.address)
    assert len(server.requests) == 1


def test_a_signature_that_is_missing_is_named_with_what_it_needs(server):
    words = 'Serving signature name: "classify_bytes" not found in signature def'
    server.reply = lambda *_: failure(400, words)
    with pytest.raises(replies.WrongServer, match="needs an export with a classifier"):
        predict_rest(server.address, "sit", "classify_bytes", [b"\x89PNG"])


def test_a_label_that_no_version_has_is_named_after_one_request(server, tmp_path):
    server.reply = lambda *_: failure(400, "Unrecognized servable version label: next")
    images = save_images(tmp_path / "photos", 3)
    with pytest.raises(SomeFailed, match="0 of 3 images answered.*check --label"):
        ask_server(images, server.address, label="next")
    assert len(server.requests) == 1


def test_the_words_of_a_server_cannot_write_on_the_terminal(server):
    server.reply = lambda *_: failure(500, "\x1b[2J red \x1b[31m\n" + "x" * 5000)
    with pytest.raises(OSError) as caught:
        predict_rest(server.address, "sit", **SENT)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("head", [b"", http_reply(b"", Content_Length=10**9)], ids=["head", "body"])
def test_the_timeout_bounds_a_reply_that_drips(head):
    begin = time.monotonic()
    with sending(head, rest=b"H") as address:
        with pytest.raises(replies.Unreachable, match="did not answer within 1 s.*--timeout"):
            predict_rest(address, "sit", **SENT, timeout=1)
    assert time.monotonic() - begin < 3


def test_a_reply_without_end_is_read_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(replies, "MAX_REPLY_BYTES", 1 << 20)
    with sending(b"HTTP/1.1 200 OK\r\n\r\n", rest=b" " * (1 << 18)) as address:
        with pytest.raises(OSError, match="sent more than 1 MiB"):
            predict_rest(address, "sit", **SENT, timeout=20)


def test_a_server_that_closes_while_it_is_sent_to_refuses_the_request():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            connection.recv(100)
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(replies.RequestRefused, match="may be too large"):
            predict_rest(address, "sit", "serving_bytes", [bytes(30 << 20)])


@pytest.mark.parametrize(
    "server, sentence",
    [
        ("127.0.0.1:{port}", "Connection refused.*is it serving"),
        ("no.such.host.invalid", "no.such"),
    ],
)
def test_a_server_that_is_not_there_ends_in_a_sentence(server, sentence):
    (port,) = free_ports(1)
    with pytest.raises(OSError, match=f"cannot be reached.*{sentence}|{sentence}.*cannot be re"):
        predict_rest(server.format(port=port), "sit", **SENT)


@pytest.mark.parametrize(
    "arguments, path",
    [
        ({}, "/v1/models/sit:predict"),
        ({"version": 7}, "/v1/models/sit/versions/7:predict"),
        ({"label": "canary"}, "/v1/models/sit/labels/canary:predict"),
        ({"label": "a/b:c"}, "/v1/models/sit/labels/a%2Fb%3Ac:predict"),
        ({"model": "a b/c:é"}, "/v1/models/a%20b%2Fc%3A%C3%A9:predict"),
    ],
)
def test_the_path_has_the_model_and_its_version(server, arguments, path):
    predict_rest(server.address, **{"model": "sit", **arguments}, **SENT)
    assert server.requests == [(path, 1)]


def test_a_path_of_a_proxy_stands_before_that_of_the_model(server):
    predict_rest(f"http://{server.address}/models/here/", "sit", **SENT)
    assert server.requests == [("/models/here/v1/models/sit:predict", 1)]


class Server6(RestServer):
    address_family = socket.AF_INET6


def test_an_ipv6_address_works():
    try:
        server = Server6("::1")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with serving(server):
        predict_rest(f"[::1]:{server.server_port}", "sit", **SENT)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "header, wait",
    [("7", 7), ("-7", None), ("soon", None), ("", None), ("9" * 400, float("inf")), ("1.5", None),
     ("Fri, 31 Dec 1999 23:59:59 GMT", 0), ("Fri, 31 Dec 99999 23:59:59 GMT", None)],
)  # fmt: skip
def test_the_time_to_come_back_is_read(server, header, wait):
    server.reply = lambda *_: failure(429, "later", Retry_After=header)
    with pytest.raises(replies.Busy) as caught:
        predict_rest(server.address, "sit", **SENT)
    assert caught.value.wait == wait


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def tls_server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = RestServer()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield server


def test_tls_with_a_trusted_certificate(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with tls_server(certificate) as server:
        outputs = predict_rest(f"https://{server.address}", "sit", **SENT)
    assert outputs["ok"].tolist() == [True]


def test_tls_with_another_certificate_is_refused(certificate):
    with tls_server(certificate) as server:
        with pytest.raises(replies.WrongServer, match="not trusted.*SSL_CERT_FILE"):
            predict_rest(f"https://{server.address}", "sit", **SENT)
    assert server.requests == []


def test_tls_and_none_are_told_apart(certificate, server):
    with pytest.raises(replies.WrongServer, match="cannot be reached by TLS.*http://"):
        predict_rest(f"https://{server.address}", "sit", **SENT)
    with tls_server(certificate) as other, pytest.raises(OSError, match=other.address):
        predict_rest(other.address, "sit", **SENT)
