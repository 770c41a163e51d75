"""What was read once is remembered until it changes."""

import importlib.metadata
import os
import pathlib
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from sit_keras.data import image_formats, manifest, reading
from sit_keras.data.manifest import check_files, remembered

LONG_AGO = 1_500_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save(path, seed=0, size=8, changed=LONG_AGO):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    os.utime(path, (changed, changed))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        save(folder / f"{i}.bmp", seed=i)
    (folder / "5.png").write_text("no image")
    os.utime(folder / "5.png", (LONG_AGO, LONG_AGO))
    return str(folder)


FILES = [*(f"{i}.bmp" for i in range(5)), "5.png"]


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read, as they are read."""
    names, check = [], reading.check_image

    def spy(path, *settings):
        names.append(os.path.basename(path))
        return check(path, *settings)

    monkeypatch.setattr(reading, "check_image", spy)
    return names


def test_files_are_read_once(root, read, cache):
    first = check_files(root, FILES)
    assert sorted(read) == FILES
    read.clear()
    assert check_files(root, FILES) == first and read == []
    assert remembered(root, FILES) == first
    (written,) = (cache / "sit_keras").iterdir()
    check_files(os.path.join(root, "..", "images"), FILES)  # the same folder by another name
    assert read == [] and list((cache / "sit_keras").iterdir()) == [written]


def test_checksums_and_reasons_are_those_of_the_files(root):
    entries = check_files(root, FILES)
    for file in FILES[:-1]:
        assert entries[file].checksum == zlib.crc32(pathlib.Path(root, file).read_bytes())
        assert entries[file].reason == ""
    assert entries["5.png"].reason and not entries["5.png"].reason.startswith(root)


def test_what_changed_is_read_again(root, read):
    before = check_files(root, FILES)
    save(os.path.join(root, "0.bmp"), seed=9)  # of the same size, with the same time
    save(os.path.join(root, "1.bmp"), seed=1, changed=LONG_AGO + 1)
    save(os.path.join(root, "2.bmp"), seed=2, size=9)
    save(os.path.join(root, "new.bmp"))
    os.unlink(os.path.join(root, "3.bmp"))
    read.clear()
    present = [file for file in [*FILES, "new.bmp"] if file != "3.bmp"]
    entries = check_files(root, present)
    assert sorted(read) == ["0.bmp", "1.bmp", "2.bmp", "new.bmp"]
    assert sorted(entries) == sorted(present)
    assert entries["0.bmp"].checksum != before["0.bmp"].checksum
    assert "3.bmp" not in remembered(root, FILES)


def test_two_files_that_changed_their_names_are_read_again(root, read):
    before = check_files(root, FILES)
    first, second = (os.path.join(root, name) for name in FILES[:2])
    os.rename(first, f"{first}.aside")
    os.rename(second, first)
    os.rename(f"{first}.aside", second)
    after = check_files(root, FILES)
    assert after["0.bmp"].checksum == before["1.bmp"].checksum
    assert after["1.bmp"].checksum == before["0.bmp"].checksum


def test_a_file_that_was_changed_just_now_is_read_again(root, read):
    now = time.time()
    save(os.path.join(root, "0.bmp"), changed=now)
    save(os.path.join(root, "1.bmp"), changed=now - 60)
    save(os.path.join(root, "2.bmp"), changed=now + 3600)  # by a camera whose clock is wrong
    check_files(root, FILES)
    read.clear()
    check_files(root, FILES)
    assert read == ["0.bmp"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"[246,", b"[247,"),
        lambda content: b"[]",
        lambda content: b"\xff\xfe\n\n",
        lambda content: b"[" * 100_000,
        lambda content: content.replace(b"1 ", b"0 ", 1),  # of another version
    ],
    ids=["empty", "half", "one digit", "a list", "no text", "nested", "version"],
)
def test_a_damaged_memory_is_forgotten(root, read, cache, damage):
    before = check_files(root, FILES)
    (written,) = (cache / "sit_keras").iterdir()
    changed = damage(written.read_bytes())
    assert changed != written.read_bytes()
    written.write_bytes(changed)
    read.clear()
    assert check_files(root, FILES) == before and sorted(read) == FILES
    read.clear()
    assert check_files(root, FILES) == before and read == []


def test_another_pillow_or_other_rules_read_again(root, tmp_path, monkeypatch):
    check_files(root, FILES)
    assert len(remembered(root, FILES)) == len(FILES)
    with monkeypatch.context() as patch:
        patch.setattr(manifest.PIL, "__version__", "0.1")
        assert remembered(root, FILES) == {}
    with monkeypatch.context() as patch:
        patch.setattr(image_formats, "EXTENSIONS", (".png",))
        assert remembered(root, FILES) == {}
    assert len(remembered(root, FILES)) == len(FILES)
    (tmp_path / "reading.py").write_text("# other rules")
    monkeypatch.setattr(manifest, "_RULES", tmp_path)
    assert remembered(root, FILES) == {}


@pytest.mark.parametrize("package", ["tifffile", "imagecodecs", "pi-heif"])
def test_what_was_read_by_another_version_of_a_reader_is_forgotten(root, monkeypatch, package):
    check_files(root, FILES)
    version = importlib.metadata.version

    def newer(name):
        return "99.1" if name == package else version(name)

    assert remembered(root, FILES) != {}
    monkeypatch.setattr(importlib.metadata, "version", newer)
    assert remembered(root, FILES) == {}


def test_each_value_range_has_its_own_memory(root, read):
    check_files(root, FILES)
    assert remembered(root, FILES, (0, 4095)) == {}
    check_files(root, FILES, (0.0, 4095.0))
    read.clear()
    check_files(root, FILES)
    check_files(root, FILES, [0, 4095])
    assert read == []


@pytest.mark.parametrize("kind", ["a file", "relative", "no home"])
def test_without_a_cache_files_are_read_each_time(root, read, tmp_path, monkeypatch, kind):
    if kind == "a file":
        (tmp_path / "taken").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path / "taken") if kind == "relative" else "nowhere")
        (tmp_path / "taken").write_text("")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        read.clear()
        assert len(check_files(root, FILES)) == 6 and sorted(read) == FILES
    assert sorted(os.listdir(tmp_path)) == ["images", "taken"]


def test_names_that_are_not_utf8_are_remembered(root, read):
    name = os.fsdecode(b"caf\xe9.png")
    save(os.path.join(root, name))
    before = check_files(root, [name])
    read.clear()
    assert check_files(root, [name]) == before and list(before) == [name] and read == []


def test_what_was_read_before_an_interruption_is_remembered(root, monkeypatch):
    monkeypatch.setattr(manifest, "_CHUNK", 1)
    monkeypatch.setattr(manifest, "cores", lambda: 1)
    check = reading.check_image

    def interrupted(path, *settings):
        if path.endswith("3.bmp"):
            raise KeyboardInterrupt
        return check(path, *settings)

    monkeypatch.setattr(reading, "check_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_files(root, FILES)
    assert sorted(remembered(root, FILES)) == FILES[:3]


def test_an_error_of_the_disk_is_not_remembered(root, read, monkeypatch):
    def fail(path, *settings):
        try:
            raise OSError(5, "Input/output error", path)
        except OSError as error:
            raise OSError(f"{path}: {error}") from error

    with monkeypatch.context() as patch:
        patch.setattr(reading, "check_image", fail)
        assert "Input/output error" in check_files(root, FILES)["0.bmp"].reason
    assert check_files(root, FILES)["0.bmp"].reason == ""


@pytest.mark.parametrize("file", ["gone.png", "pipe.png", "folder.png"])
def test_what_is_no_file_any_more_is_not_opened(root, file):
    os.mkfifo(os.path.join(root, "pipe.png"))
    os.mkdir(os.path.join(root, "folder.png"))
    assert check_files(root, [file])[file].reason


def test_no_more_threads_read_than_there_are_cores(root, monkeypatch):
    present, most = [], []

    def check(path, *settings):
        present.append(path)
        most.append(len(present))
        time.sleep(0.005)
        present.remove(path)
        return ""

    monkeypatch.setattr(manifest, "_CHUNK", 1)
    monkeypatch.setattr(manifest, "cores", lambda: 2)
    monkeypatch.setattr(reading, "check_image", check)
    check_files(root, FILES)
    assert max(most) == 2
