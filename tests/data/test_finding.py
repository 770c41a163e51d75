"""What the walk through a folder finds, and what it leaves out."""

import os
import socket

import pytest

from sit_keras.config.files import make_own_folder
from sit_keras.data import finding
from sit_keras.data.finding import describe_left_out, find, printable


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def left_out(root):
    return describe_left_out(find(str(root)).left_out)


def test_images_are_found_at_any_depth_in_the_order_of_their_parts(tmp_path):
    touch(tmp_path, "b.JPG", "a/z.png", "a b/1.tiff", "a/deep/er/2.webp", "A.bmp")
    found = find(str(tmp_path))
    assert found.images == ["A.bmp", "a/deep/er/2.webp", "a/z.png", "a b/1.tiff", "b.JPG"]
    assert found.folders == ["a", "a b"] and not found.left_out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".ipynb_checkpoints/a-checkpoint.png", "1 hidden folder (.ipynb_checkpoints)"),
        ("cat/.Trash-1000/files/a.png", "1 hidden folder (.Trash-1000)"),
        (".git/a.png", "1 hidden folder (.git)"),
        ("cat/._photo.jpg", "1 hidden file"),
        (".writing-x.png", "1 hidden file"),
        ("cat/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "1 system folder (@eaDir)"),
        ("#recycle/a.png", "1 system folder (#recycle)"),
        ("$RECYCLE.BIN/S-1-5/$R0.jpg", "1 system folder ($RECYCLE.BIN)"),
        ("System Volume Information/a.png", "1 system folder (System Volume Information)"),
        ("__MACOSX/cat/a.png", "1 system folder (__MACOSX)"),
        ("lost+found/a.png", "1 system folder (lost+found)"),
        ("Thumbnails/a.png", "1 system folder (Thumbnails)"),
        ("cat/THUMBNAILS/a.png", "1 system folder (THUMBNAILS)"),
        ("notes.txt", "1 other file (.txt)"),
        ("README", "1 other file (no ending)"),
    ],
)
def test_what_is_no_image_of_the_user_is_left_out_and_counted(tmp_path, name, text):
    touch(tmp_path, "cat/0.png", name)
    assert find(str(tmp_path)).images == ["cat/0.png"]
    assert left_out(tmp_path) == text


def test_a_root_may_have_any_name(tmp_path):
    for name in (".hidden", "thumbnails"):
        touch(tmp_path / name, "0.png")
        assert find(str(tmp_path / name)).images == ["0.png"]


def test_pictures_that_are_not_read_are_counted_by_kind_with_a_hint(tmp_path):
    touch(tmp_path, *(f"{i}.PSD" for i in range(3)), "a.svg", "b.jpg")
    text = left_out(tmp_path)
    assert "3 .psd (" in text and "1 .svg (" in text


def test_folders_of_results_are_left_out_below_the_root_alone(tmp_path):
    results = make_own_folder(tmp_path / "runs" / "mine")
    touch(tmp_path, "0.png", "runs/mine/sheets/epoch.png", "runs/photo.png")
    assert find(str(tmp_path)).images == ["0.png", "runs/photo.png"]
    assert left_out(tmp_path) == "1 folder of SiT-Keras results (runs/mine)"
    assert find(str(results)).images == ["sheets/epoch.png"]


def test_a_folder_with_the_name_of_an_image_is_a_folder(tmp_path):
    touch(tmp_path, "album.jpg/b.png")
    (tmp_path / "empty.png").mkdir()
    found = find(str(tmp_path))
    assert found.images == ["album.jpg/b.png"] and not found.left_out


def test_links_are_followed_and_counted_in_each_place(tmp_path):
    touch(tmp_path, "elsewhere/bird/0.png", "elsewhere/1.png", "photos/cat/2.png")
    (tmp_path / "photos/bird").symlink_to(tmp_path / "elsewhere/bird")
    (tmp_path / "photos/owl").symlink_to("../elsewhere/bird")
    (tmp_path / "photos/one.png").symlink_to(tmp_path / "elsewhere/1.png")
    found = find(str(tmp_path / "photos"))
    assert found.images == ["bird/0.png", "cat/2.png", "one.png", "owl/0.png"]
    (tmp_path / "link").symlink_to("photos")
    assert find(str(tmp_path / "link")).images == found.images


def test_links_do_not_lead_in_circles(tmp_path):
    touch(tmp_path, "cat/0.png", "cat/deep/1.png")
    (tmp_path / "cat/deep/up").symlink_to("..")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert find(str(tmp_path)).images == ["cat/0.png", "cat/deep/1.png"]
    assert left_out(tmp_path) == (
        "2 broken links (gone.png, itself), 2 links back to folders above them (cat/deep/up, here)"
    )


def test_folders_that_link_to_one_another_do_not_multiply_without_end(tmp_path):
    names = "abcdefghij"
    for name in names:
        touch(tmp_path, f"{name}/0.png")
        for other in names.replace(name, ""):
            (tmp_path / name / other).symlink_to(tmp_path / other)
    found = find(str(tmp_path))
    assert len(found.images) <= len(names) * finding.MAX_PLACES
    assert {image.rsplit("/", 2)[-2] for image in found.images} == set(names)
    assert "further links to the same folders" in left_out(tmp_path)


def test_pipes_sockets_and_devices_are_never_opened(tmp_path, monkeypatch):
    touch(tmp_path, "0.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "linked.png").symlink_to("pipe.jpg")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        assert find(str(tmp_path)).images == ["0.png"]
        assert left_out(tmp_path).startswith("4 pipes, sockets or devices (")


def test_thousands_of_levels_are_walked(tmp_path):
    deepest, made = f"{tmp_path}/", []
    for _ in range(1600):
        deepest += "d/"
        os.mkdir(deepest)
        made.append(deepest)
    with open(f"{deepest}0.png", "wb"):
        pass
    try:
        assert find(str(tmp_path)).images == ["d/" * 1600 + "0.png"]
    finally:  # what recursion could not remove
        os.unlink(f"{deepest}0.png")
        for folder in reversed(made):
            os.rmdir(folder)


def test_a_folder_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    touch(tmp_path, "0.png", "closed/1.png")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "closed":  # no right of root's can be taken away for real
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find(str(tmp_path)).images == ["0.png"]
    assert left_out(tmp_path) == "1 folder that cannot be opened (closed)"
    with pytest.raises(ValueError, match="closed cannot be opened: Permission denied"):
        find(str(tmp_path / "closed"))


def test_many_names_are_shortened(tmp_path):
    touch(tmp_path, *(f".{i}/a.png" for i in range(5)), *(f"{i}.txt" for i in range(1200)))
    assert left_out(tmp_path) == "5 hidden folders (.0, .1, .2, ...), 1,200 other files (.txt)"


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"caf\xe9", r"caf\xe9"), ("café".encode(), "café"), (b"a\nb\x1b[2J", r"a\x0ab\x1b[2J")],
)  # fmt: skip
def test_any_name_can_be_printed(name, text):
    assert printable(os.fsdecode(name)) == text
