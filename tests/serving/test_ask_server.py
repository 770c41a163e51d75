"""Many images and one server: what one failure takes with it, and what is tried again."""

import base64
import io
import json
import os
import pathlib
import shutil
import socket
import struct
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from rest_stand_in import NO_IMAGE, REFUSED, answer, failure, save_images, serving

from sit_keras.serving import replies, retries, uploads
from sit_keras.serving.client import SomeFailed, ask_server


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(retries, "_DELAY", 0.01)


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def photos(tmp_path):
    """A folder of seventy images: three requests, of 32, 32 and 6."""
    save_images(tmp_path / "photos", 70)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ({"version": -1}, "version is -1"),
        ({"version": 1 << 63}, "expected the number of a version"),
        ({"version": 1, "label": "stable"}, "label is 'stable' and the version 1: give one of"),
        ({"label": ""}, "label is '' and the version None: give one of them, and not empty"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"timeout": 0}, "timeout is 0 s"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": 1e9}, "a day at most"),
        ({"retries": -1}, "retries is -1"),
        ({"model": ""}, "name of the model is empty"),
        ({"classes": True, "neighbours": 1}, "exclude each other"),
        ({"output": "no/such/folder/out.npz"}, "there is no folder no/such/folder"),
        ({"output": "."}, "it is no file"),
        ({"output": "/dev/null"}, "it is no file"),
    ],
)
def test_an_argument_out_of_range_is_refused_before_a_file_is_sent(
    server, photos, arguments, complaint
):
    with pytest.raises((ValueError, OSError), match=complaint):
        ask_server([photos], server.address, **arguments)
    assert server.requests == []


def test_no_image_is_refused(server):
    with pytest.raises(ValueError, match="no image to send"):
        ask_server([], server.address)


def names(captured):
    """The names of the files that have a line."""
    return [pathlib.Path(line.split(": ")[0].split()[0]).name for line in captured.splitlines()]


def test_one_failed_request_of_three_takes_no_answer_of_the_others_with_it(
    server, photos, tmp_path, capsys
):
    server.reply = lambda i, asked: failure(500, "broken") if i == 2 else answer(asked)
    with pytest.raises(SomeFailed) as caught:
        ask_server([photos], server.address, output=tmp_path / "out.npz")
    assert str(caught.value) == "38 of 70 images answered; 32 failed: 32 without an answer."
    out, err = capsys.readouterr()
    there = [f"{i:02}.png" for i in (*range(32), *range(64, 70))]
    assert names(out) == [*there, "Embeddings"]
    assert names(err) == [f"{i:02}.png" for i in range(32, 64)]
    assert all("is without an answer: 127.0.0.1" in line for line in err.splitlines())
    with np.load(tmp_path / "out.npz") as saved:
        assert [pathlib.Path(path).name for path in saved["paths"]] == there
        assert saved["embedding"].shape == (38, 40) and saved["ok"].all()
    assert len(caught.value.outputs["embedding"]) == 38


def test_answers_are_printed_as_they_arrive(server, photos, capsys):
    seen = []

    def reply(number, asked):
        seen.append(len(capsys.readouterr().out.splitlines()))
        return answer(asked)

    server.reply = reply
    ask_server([photos], server.address)
    assert seen == [0, 32, 32]


def test_an_image_that_makes_the_server_refuse_the_request_fails_alone(server, tmp_path, capsys):
    save_images(tmp_path / "photos", 10, {3: REFUSED, 4: REFUSED})
    with pytest.raises(SomeFailed, match="8 of 10 images answered; 2 failed: 2 without an answer"):
        ask_server([tmp_path / "photos"], server.address)
    out, err = capsys.readouterr()
    assert names(out) == [f"{i:02}.png" for i in range(10) if i not in (3, 4)]
    assert names(err) == ["03.png", "04.png"]
    assert "the request is refused" in err


def test_a_request_that_is_too_large_is_divided(server, photos):
    server.reply = lambda i, asked: (
        failure(413, "large") if len(asked["inputs"]["image_bytes"]) > 8 else answer(asked)
    )
    outputs = ask_server([photos], server.address)
    assert len(outputs["ok"]) == 70
    assert [count for _, count in server.requests][:5] == [32, 16, 8, 8, 16]


def test_images_that_the_server_refuses_are_named_and_counted(server, tmp_path, capsys):
    save_images(tmp_path / "photos", 4, {1: NO_IMAGE})
    with pytest.raises(
        SomeFailed, match="3 of 4 images answered; 1 failed: 1 refused by the server"
    ):
        ask_server([tmp_path / "photos"], server.address, output=tmp_path / "out.npz")
    out, err = capsys.readouterr()
    assert names(out) == ["00.png", "02.png", "03.png", "Embeddings"]
    assert err == f"{tmp_path}/photos/01.png is refused by the server: it is no image\n"
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["ok"].tolist() == [True, False, True, True]
        assert saved["error"].tolist() == ["", "it is no image", "", ""]


def test_numbers_that_are_not_finite_are_no_answer_to_their_image_alone(server, photos):
    def reply(number, asked):
        status, headers, body = answer(asked)
        return status, headers, body.replace(b"[[1.0", b"[[NaN")

    server.reply = reply
    paths = [photos / "00.png", photos / "01.png"]
    with pytest.raises(SomeFailed, match="1 of 2 images answered") as caught:
        ask_server(paths, server.address)
    assert "not finite" in caught.value.outputs["error"][0]


def test_a_model_that_changes_in_between_is_named(server, photos):
    def reply(number, asked):
        outputs = json.loads(answer(asked)[2])["outputs"]
        outputs["embedding"] = [[1.0] * (40 + (number == 3))] * len(outputs["ok"])
        return 200, {}, json.dumps({"outputs": outputs}).encode()

    server.reply = reply
    with pytest.raises(SomeFailed, match="64 of 70 images answered") as caught:
        ask_server([photos], server.address)
    assert len(caught.value.outputs["embedding"]) == 64


def bad_files(folder):
    """One file of each kind that is no image; those that could stop a client, with the rest."""
    (folder / "text.png").write_bytes(b"no image")
    (folder / "empty.jpg").touch()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.png").symlink_to(folder / "nothing")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket.jpg"))
    return [p for p in folder.iterdir() if p.stem.isalpha() and p.name != "folder.jpg"]


def test_bad_files_fail_alone(server, tmp_path, capsys):
    good = save_images(tmp_path / "photos", 3)
    bad = bad_files(tmp_path / "photos")
    images = [good[0], *bad, tmp_path / "missing.png", *good[1:]]
    with pytest.raises(SomeFailed, match="3 of 10 images answered; 7 failed: 7 cannot be read"):
        ask_server(images, server.address)
    out, err = capsys.readouterr()
    assert names(out) == ["00.png", "01.png", "02.png"]
    assert sorted(names(err)) == sorted([*(path.name for path in bad), "missing.png"])


def test_a_file_that_vanishes_after_it_was_listed_fails_alone(server, photos, capsys):
    def reply(number, asked):
        (photos / "50.png").unlink(missing_ok=True)
        return answer(asked)

    server.reply = reply
    with pytest.raises(SomeFailed, match="69 of 70 images answered; 1 failed: 1 cannot be read"):
        ask_server([photos], server.address)
    assert names(capsys.readouterr().err) == ["50.png"]


def with_exif(kind, exif):
    """An image file with metadata that is not sound."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(buffer, kind)
    data = buffer.getvalue()
    if kind == "JPEG":
        return (
            data[:2]
            + b"\xff\xe1"
            + struct.pack(">H", len(exif) + 8)
            + b"Exif\0\0"
            + exif
            + data[2:]
        )
    chunk = b"eXIf" + exif
    length, check = (struct.pack(">I", value) for value in (len(exif), zlib.crc32(chunk)))
    return data[:33] + length + chunk + check + data[33:]  # behind the header


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [("noise.png", "RGB", (1500, 1400)), ("print.jpg", "CMYK", (3300, 3000))],
)
def test_an_image_that_a_server_would_refuse_for_its_size_is_made_smaller(
    tmp_path, random, name, mode, size
):
    shape = (size[1], size[0], len(mode))
    pixels = random.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(tmp_path / name, quality=10)
    with Image.open(io.BytesIO(uploads.image_bytes(tmp_path / name))) as sent:
        assert (sent.format, sent.mode) == ("JPEG", "RGB")  # noise is too long as a PNG
        assert 1024 <= min(sent.size) <= 2048


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    "exif",
    [b"II*\0", b"II", b"x" * 12, b"II+\0\x08\0\0\0", b"MM\0*\0\0\0\x08\xff\xff",
     struct.pack("<4sIHHHI4s", b"II*\0", 8, 1, 0x112, 2, 4, b"abc")],
)  # fmt: skip
def test_an_image_with_odd_metadata_is_sent_as_it_is(server, tmp_path, kind, exif):
    sent = []

    def reply(number, asked):
        sent.extend(base64.b64decode(each["b64"]) for each in asked["inputs"]["image_bytes"])
        return answer(asked)

    server.reply = reply
    (tmp_path / "odd").write_bytes(with_exif(kind, exif))
    ask_server([tmp_path / "odd"], server.address)
    assert sent == [with_exif(kind, exif)]


def test_a_terminal_without_the_letters_of_a_name_shows_their_numbers(server, photos, monkeypatch):
    (photos / "00.png").rename(photos / "é.png")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")  # which would refuse them
    monkeypatch.setattr(sys, "stdout", terminal)
    ask_server([photos / "é.png"], server.address)
    terminal.flush()
    assert rb"\xe9.png: [" in terminal.buffer.getvalue()


def test_whatever_is_raised_while_a_file_is_converted_is_its_own_fault(
    server, photos, monkeypatch, capsys
):
    def fail(path, enough, value_range):
        raise TypeError("odd")

    monkeypatch.setattr(uploads, "read_image", fail)
    Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(photos / "odd.bmp")
    with pytest.raises(SomeFailed, match="70 of 71 images answered"):
        ask_server([photos], server.address)
    assert capsys.readouterr().err == f"{photos}/odd.bmp cannot be read: TypeError: odd\n"


def test_a_file_behind_a_folder_of_somebody_else_fails_alone(server, photos, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "is_dir", refuse)  # as root, nothing else refuses
    assert ask_server([photos / "00.png"], server.address)["ok"].tolist() == [True]


def test_a_busy_server_is_asked_again_after_what_it_says(server, photos, capsys):
    times = []

    def reply(number, asked):
        times.append(time.monotonic())
        return failure(503, "later", Retry_After="1") if number == 1 else answer(asked)

    server.reply = reply
    ask_server([photos / "00.png"], server.address)
    assert 1 <= times[1] - times[0] < 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{server.address} answered 503 (later)")
    assert line.endswith("Trying again in 1.0 s (1 of 3).")


@pytest.mark.parametrize(
    "status, count", [(503, 4), (502, 4), (504, 4), (429, 4), (500, 1), (404, 1)]
)
def test_only_what_may_pass_is_tried_again(server, photos, status, count):
    server.reply = lambda *_: failure(status, "no")
    with pytest.raises(SomeFailed, match="0 of 1 images answered"):
        ask_server([photos / "00.png"], server.address, retries=3)
    assert len(server.requests) == count


def test_waits_double_with_jitter(monkeypatch):
    waits = []
    monkeypatch.setattr(retries, "_DELAY", 1.0)
    monkeypatch.setattr(retries.time, "sleep", waits.append)

    def ask(files):
        raise replies.Unreachable("gone")

    for _ in range(5):
        with pytest.raises(replies.Unreachable):
            retries.with_retries(ask, 3, lambda line: None)([b""])
    waits = np.reshape(waits, (5, 3))
    assert (np.abs(waits / [1, 2, 4] - 1) <= 0.25).all()
    assert len(set(waits[:, 0])) > 1


def test_a_server_that_wants_an_hour_is_not_waited_for(server, photos):
    server.reply = lambda *_: failure(503, "later", Retry_After="3600")
    with pytest.raises(SomeFailed):
        ask_server([photos / "00.png"], server.address)
    assert len(server.requests) == 1


def test_a_server_that_goes_away_keeps_the_answers_until_then(photos, tmp_path, capsys):
    with serving() as server:
        served = threading.Event()

        def reply(number, asked):
            if number == 2:
                served.set()
                time.sleep(5)
            return answer(asked)

        server.reply = reply
        with pytest.raises(SomeFailed) as caught:
            ask_server([photos], server.address, output=tmp_path / "o.npz", timeout=1, retries=0)
    assert str(caught.value).startswith(
        "32 of 70 images answered; 38 failed: 38 without an answer: "
        f"{server.address} did not answer within 1 s"
    )
    assert len(server.requests) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 33
    assert err == f"No answer for 38 images, from {photos}/32.png to {photos}/69.png.\n"
    with np.load(tmp_path / "o.npz") as saved:
        assert len(saved["embedding"]) == 32


def test_a_server_that_fails_three_requests_in_a_row_is_not_asked_further(server, tmp_path):
    save_images(tmp_path / "photos", 32 * 5)
    server.reply = lambda *_: failure(500, "always")
    with pytest.raises(SomeFailed, match="0 of 160 images answered; 160 failed: .*always"):
        ask_server([tmp_path / "photos"], server.address)
    assert len(server.requests) == 3


def test_neighbours_are_those_that_are_there(server, tmp_path, capsys):
    save_images(tmp_path / "photos", 4, {0: NO_IMAGE})
    with pytest.raises(SomeFailed):
        ask_server([tmp_path / "photos"], server.address, neighbours=9)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and not any("00.png" in line for line in lines)


def test_answers_are_saved_at_an_interrupt(server, photos, tmp_path, monkeypatch):
    def interrupted(number, asked):
        if number == 2:
            os.kill(os.getpid(), 2)
            time.sleep(0.5)
        return answer(asked)

    server.reply = interrupted
    with pytest.raises(KeyboardInterrupt):
        ask_server([photos], server.address, output=tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["embedding"].shape == (32, 40)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.npz"]


def test_names_that_are_no_text_are_saved_as_they_are(server, tmp_path, capsys):
    name = os.fsencode(tmp_path) + b"/caf\xe9\x1b.png"
    save_images(tmp_path, 1)
    shutil.copy(os.fsencode(tmp_path / "00.png"), name)
    ask_server([os.fsdecode(name)], server.address, output=tmp_path / "out.npz")
    assert "caf\\udce9\\x1b.png: [" in capsys.readouterr().out
    with np.load(tmp_path / "out.npz") as saved:
        assert [os.fsencode(path) for path in saved["paths"].tolist()] == [name]
