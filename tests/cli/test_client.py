"""The client where only NumPy, Pillow and absl are installed."""

import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

BLOCKED = ("tensorflow", "keras", "sklearn", "matplotlib", "tqdm", "filelock", "grpc",
           "tensorflow_serving", "tensorboard", "scipy")  # fmt: skip
CLIENT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from sit_keras.cli.main import main
main(["client", *sys.argv[1:]])
"""


def call_client(*arguments):
    code = CLIENT.format(blocked=BLOCKED)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


class Server(http.server.BaseHTTPRequestHandler):
    """Answers every image with an embedding, or with two classes."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        count = len(asked["inputs"]["image_bytes"])
        outputs = {"ok": [True] * count, "error": [""] * count}
        if asked["signature_name"] == "classify_bytes":
            outputs["top_classes"] = [["owl", "cat"]] * count
            outputs["top_probabilities"] = [[0.75, 0.25]] * count
        else:
            outputs["embedding"] = np.eye(count, 4).tolist()
        body = json.dumps({"outputs": outputs}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.fixture
def images(tmp_path):
    for name in ("a.png", "deep/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no image")
    return tmp_path


def test_the_client_needs_no_tensorflow(server, images):
    result = call_client(images, f"--server={server}", "--classes")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{images / 'a.png'}: owl 75.0%, cat 25.0%",
        f"{images / 'deep' / 'b.jpg'}: owl 75.0%, cat 25.0%",
    ]
    (complaint,) = result.stderr.splitlines()
    assert complaint.startswith(f"{images / 'broken.png'} cannot be read: ")


def test_embeddings_are_written(server, images):
    output = images / "embeddings.npz"
    result = call_client(images / "a.png", f"--server={server}", f"--output={output}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == f"Embeddings: {output}"
    with np.load(output) as saved:
        assert saved["paths"].tolist() == [str(images / "a.png")]
        np.testing.assert_array_equal(saved["embedding"], [[1, 0, 0, 0]])


def test_neighbours_are_printed(server, images):
    result = call_client(images, f"--server={server}", "--neighbours=1")
    assert f"{images / 'a.png'}: {images / 'deep' / 'b.jpg'} (0.000)" in result.stdout


def test_grpc_says_what_to_install(images):
    result = call_client(images, "--grpc")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        'sit-keras client: grpcio is not installed: pip install "sit-keras[serving]"\n'
    )
