"""A server in this process that answers REST requests as TF Serving does, or as a test wants."""

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image

os.environ["no_proxy"] = "127.0.0.1,::1,localhost"  # whatever proxy this machine has

# In a file: the server answers its request with that status.
REFUSED = b"refuse the whole request"
# In a file: the server answers that it is no image.
NO_IMAGE = b"refuse this image"


class RestServer(http.server.ThreadingHTTPServer):
    """Answers every image with an embedding, or with two classes.

    `requests` has the path and the number of images of each request. `reply` may be replaced: it
    takes the number of the request from 1 on, and the body, and returns status, headers, body.
    """

    address_family = socket.AF_INET
    daemon_threads = True

    def __init__(self, host="127.0.0.1"):
        super().__init__((host, 0), Handler)
        self.requests = []
        self.reply = lambda number, asked: answer(asked)

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        pass  # a client that does not wait


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, len(asked["inputs"]["image_bytes"])))
        status, headers, body = self.server.reply(len(self.server.requests), asked)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def answer(asked):
    files = [base64.b64decode(each["b64"]) for each in asked["inputs"]["image_bytes"]]
    if any(REFUSED in file for file in files):
        return failure(400, "the request is refused")
    ok = [NO_IMAGE not in file for file in files]
    outputs = {"ok": ok, "error": ["" if each else "it is no image" for each in ok]}
    if asked["signature_name"] == "classify_bytes":
        outputs["top_classes"] = [["owl", "cat"]] * len(files)
        outputs["top_probabilities"] = [[0.75, 0.25]] * len(files)
    else:
        outputs["embedding"] = np.eye(len(files), 40).tolist()
    return 200, {}, json.dumps({"outputs": outputs}).encode()


def failure(status, text, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, names, json.dumps({"error": text}).encode()


@contextlib.contextmanager
def serving(server=None):
    """A server that is running, until the end of a with block."""
    with server or RestServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@contextlib.contextmanager
def sending(reply, rest=None):
    """The address of a socket that answers each connection with these bytes and closes it.

    Args:
        reply: bytes.
        rest: bytes or None. What it goes on sending, again and again, instead of closing.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection):
            with connection, contextlib.suppress(OSError):
                connection.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    while connection.recv(1 << 16):  # all of the request, or closing resets it
                        pass
                connection.sendall(reply)
                while rest is not None:
                    connection.sendall(rest)
                    stop.wait(0.05)
                    if stop.is_set():
                        return

        stop = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()


def save_images(folder, count, marks=()):
    """Writes images 00.png, 01.png, ...; `marks` has what to append to some of them, by number."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:02}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(path)
        with open(path, "ab") as file:
            file.write(dict(marks).get(i, b""))
    return paths


def make_certificate(folder):
    """The paths of a certificate of this machine, which nobody trusts, and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the certificate of this test")
    paths = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths
