"""The client where only NumPy, Pillow and absl are installed."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from rest_stand_in import NO_IMAGE, answer, failure, save_images, sending, serving

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


def client(*arguments, **settings):
    """The process of a client that was called with these arguments."""
    code = CLIENT.format(blocked=BLOCKED)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(os.fspath, arguments)], cwd=ROOT, **{**pipes, **settings}
    )


def call_client(*arguments, **settings):
    process = client(*arguments, **settings)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def images(tmp_path):
    for name in ("a.png", "deep/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(tmp_path / name)
    return tmp_path


def test_the_client_needs_no_tensorflow(server, images):
    result = call_client(images, f"--server={server.address}", "--classes")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{images / 'a.png'}: owl 75.0%, cat 25.0%",
        f"{images / 'deep' / 'b.jpg'}: owl 75.0%, cat 25.0%",
    ]


def test_a_broken_file_fails_alone_and_the_exit_code_is_1(server, images):
    (images / "broken.png").write_bytes(b"no image")
    result = call_client(images, f"--server={server.address}", "--classes")
    assert (result.returncode, len(result.stdout.splitlines())) == (1, 2)
    complaint, summary = result.stderr.splitlines()
    assert complaint.startswith(f"{images / 'broken.png'} cannot be read: ")
    assert summary == "sit-keras client: 2 of 3 images answered; 1 failed: 1 cannot be read."


def test_embeddings_are_written(server, images):
    output = images / "embeddings.npz"
    result = call_client(images / "a.png", f"--server={server.address}", f"--output={output}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == f"Embeddings: {output}"
    with np.load(output) as saved:
        assert saved["paths"].tolist() == [str(images / "a.png")]
        np.testing.assert_array_equal(saved["embedding"], np.eye(1, 40))


def test_neighbours_are_printed(server, images):
    result = call_client(images, f"--server={server.address}", "--neighbours=1")
    assert f"{images / 'a.png'}: {images / 'deep' / 'b.jpg'} (0.000)" in result.stdout


def test_grpc_says_what_to_install(images):
    result = call_client(images, "--grpc")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        'sit-keras client: grpcio is not installed: pip install "sit-keras[serving]"\n'
    )


def test_a_wrong_port_is_one_sentence(images):
    with sending(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0])) as address:
        result = call_client(images / "a.png", f"--server={address}")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith(
        f"sit-keras client: 0 of 1 images answered; 1 failed: 1 without an answer: {address} "
    )


TERMINALS = {
    "UTF-8": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "0"},
    "strict": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"},
    "C": {"LC_ALL": "C"},
    "ASCII": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "Latin": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_names_that_are_no_text_are_answered_in_every_terminal(server, tmp_path, terminal):
    folder = tmp_path / "images"
    save_images(folder, 1, {0: b""})
    shown = [rb"00.png", rb"a\x0anew line.png", rb"caf\udce9.png"]
    for name in (b"caf\xe9.png", b"a\nnew line.png"):
        shutil.copy(folder / "00.png", os.fsencode(folder) + b"/" + name)
    bad = os.fsencode(folder) + "/zö\udce9.png".encode(errors="surrogateescape")
    with open(folder / "00.png", "rb") as good, open(bad, "wb") as file:
        file.write(good.read() + NO_IMAGE)
    environment = {**os.environ, **TERMINALS[terminal]}
    output = tmp_path / "out.npz"
    result = call_client(
        folder, f"--server={server.address}", f"--output={output}",
        env=environment, encoding="latin-1",
    )  # fmt: skip
    assert "Traceback" not in result.stderr
    *lines, last = result.stdout.encode("latin-1").splitlines()
    assert [line.split(b": ")[0].split(b"/")[-1] for line in lines] == [
        name.replace(rb"\x0a", rb"\n") for name in shown
    ]
    assert result.returncode == 1 and "3 of 4 images answered" in result.stderr
    with np.load(output) as saved:
        paths = [os.fsencode(path) for path in saved["paths"].tolist()]
    there = [os.fsencode(folder) + b"/" + name for name in os.listdir(os.fsencode(folder))]
    assert sorted(paths) == sorted(there)


def test_nobody_who_reads_on_keeps_the_embeddings_from_being_saved(server, tmp_path):
    save_images(tmp_path / "images", 70)
    output = tmp_path / "out.npz"
    process = client(tmp_path / "images", f"--server={server.address}", f"--output={output}")
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(), err) == (1, "")
    with np.load(output) as saved:
        assert len(saved["paths"]) >= 32


def test_ctrl_c_saves_what_was_answered(server, tmp_path):
    save_images(tmp_path / "images", 70)
    waiting, finished = threading.Event(), threading.Event()

    def reply(number, asked):
        if number == 3:
            waiting.set()
            finished.wait(30)
        return answer(asked)

    server.reply = reply
    output = tmp_path / "out.npz"
    process = client(tmp_path / "images", f"--server={server.address}", f"--output={output}")
    assert waiting.wait(30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    finished.set()
    assert process.returncode == 1 and len(out.splitlines()) == 65
    assert err.splitlines() == [
        f"No answer for 6 images, from {tmp_path}/images/64.png to {tmp_path}/images/69.png.",
        "sit-keras client: Stopped by Ctrl-C. The answers until then are printed, and saved if "
        "--output was given.",
    ]
    with np.load(output) as saved:
        assert saved["embedding"].shape == (64, 40)


def test_a_terminal_that_shows_no_answers_shows_how_many_there_are(server, tmp_path):
    save_images(tmp_path / "images", 40)
    ours, theirs = pty.openpty()
    result = call_client(tmp_path / "images", f"--server={server.address}", stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 40)
    assert shown == b"\r32 of 40 images\r40 of 40 images\r\x1b[K"


def test_the_flags_reach_the_server(server, images):
    server.reply = lambda i, asked: failure(503, "later") if i == 1 else answer(asked)
    result = call_client(
        images / "a.png", f"--server=http://{server.address}/here", "--model=m", "--version=3",
        "--retries=1", "--timeout=9",
    )  # fmt: skip
    assert result.returncode == 0
    assert server.requests == [("/here/v1/models/m/versions/3:predict", 1)] * 2
    assert result.stderr.count("Trying again") == 1
