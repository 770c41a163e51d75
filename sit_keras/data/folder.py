"""People's own images: which of them can be used, and their splits and classes."""

import collections
import dataclasses
import os
import pathlib
import sys
import typing

import numpy as np

from sit_keras.data import folder_classes, manifest
from sit_keras.data.broken_files import report_broken
from sit_keras.data.finding import (
    Found,
    Kind,
    counted,
    describe_left_out,
    find,
    printable,
    shortened,
)
from sit_keras.data.image_formats import EXTENSIONS
from sit_keras.data.images import NO_LABEL, ImageSet

UNREADABLE = ("unreadable file", "unreadable files")
TEST_UNLABELLED = ("test image without a class", "test images without a class")
TEST_OTHER_CLASS = (
    "test image of a class without training images",
    "test images of classes without training images",
)
TEST_NO_CLASSES = (
    "test image, since the images to train on have no classes",
    "test images, since the images to train on have no classes",
)
SHOWN_CLASSES = 6  # names of classes


class Survey(typing.NamedTuple):
    """What a folder seems to hold, before its files are read.

    Args:
        images, labelled: int. The images to train on, and those of them with a label.
        has_test: bool. Whether there is a split to test on.
        text: str. What was found.
        train: ImageSet or None. The images to train on, if they are files.
    """

    images: int
    labelled: int
    has_test: bool
    text: str = ""
    train: ImageSet | None = None


def load_folder(
    path: str | os.PathLike,
    strict: bool,
    value_range: tuple[float, float] | None = None,
    channels: int = 3,
) -> tuple[ImageSet, ImageSet | None]:
    """Finds the images under a folder, checks that each can be read, and prints what was found.

    `PATH/train` and `PATH/test` (or `val`, and other spellings) are taken as splits if they are
    there. Within a split the first level of sub-folders gives the classes, if there are at least
    two with images that can be read, and at least half of the images lie in them; what lies beside
    them has no label. Deeper levels only group.

    Args:
        path: the folder.
        strict: bool. Refuse broken files instead of naming and skipping them.
        value_range, channels: as for `sit_keras.data.reading.read_image`.

    Returns:
        The training images, and the test images of the same classes, or None where there are none.

    Raises:
        ValueError: if the folder is missing, holds no image, or (strict) holds a broken one.
    """
    folder = _open(path)
    entries = manifest.check_files(folder.found.root, folder.files, value_range, channels)
    root = folder.found.root
    broken = {os.path.join(root, file): e.reason for file, e in entries.items() if e.reason}
    report_broken(root, broken, len(folder.files), strict)
    contents = _arrange(folder, entries, value_range, channels)
    print(contents.text)
    return contents.train, contents.test


def survey_folder(
    path: str | os.PathLike,
    value_range: tuple[float, float] | None = None,
    read: bool = False,
    channels: int = 3,
) -> Survey:
    """Returns what `load_folder` would train on.

    Args:
        path, value_range, channels: as for `load_folder`.
        read: bool. Read the files that were not read yet, as `load_folder` does. Otherwise no file
            is opened, and those that an earlier opening could not use do not count.

    Raises:
        ValueError: as `load_folder`.
    """
    folder = _open(path)
    look = manifest.check_files if read else manifest.remembered
    entries = look(folder.found.root, folder.files, value_range, channels)
    contents = _arrange(folder, entries, value_range, channels)
    train = contents.train
    labelled = int(np.sum(train.labels != NO_LABEL))
    return Survey(len(train), labelled, contents.test is not None, contents.text, train)


def find_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the image files under a folder, by their names, without opening them.

    What is left out is counted on the standard error, see `sit_keras.data.finding.find`.

    Raises:
        ValueError: if the folder is missing or has none.
    """
    found = _find(folder)
    if found.left_out:
        print(
            f"{printable(found.root)}: left out: {describe_left_out(found.left_out)}",
            file=sys.stderr,
        )
    return [pathlib.Path(found.root, image) for image in found.images]


@dataclasses.dataclass(frozen=True)
class _Folder:
    found: Found
    splits: folder_classes.Splits

    @property
    def files(self) -> list[str]:
        return self.splits.train + self.splits.test


@dataclasses.dataclass(frozen=True)
class _Contents:
    train: ImageSet
    test: ImageSet | None
    text: str


def _find(path) -> Found:
    root = os.path.expanduser(os.fspath(path))
    if not root.strip():
        raise ValueError("The name of the folder is empty: give the folder of your images.")
    if not os.path.isdir(root):
        name = printable(root)
        what = f"{name} is a file" if os.path.exists(root) else f"No folder {name}"
        raise ValueError(f"{what}: give the folder of your images, as in folder:PATH.")
    found = find(str(pathlib.Path(root)))
    if not found.images:
        left_out = describe_left_out(found.left_out)
        raise ValueError(
            f"No image in {printable(root)}: expected files that end in {', '.join(EXTENSIONS)}, "
            f"at any depth.{f' Left out: {left_out}.' if left_out else ''}"
        )
    return found


def _open(path) -> _Folder:
    found = _find(path)
    return _Folder(found, folder_classes.find_splits(found))


def _arrange(
    folder: _Folder, entries: dict[str, manifest.Entry], value_range, channels
) -> _Contents:
    """Returns the images that can be used, with their labels, and a line about all of it."""
    found, splits = folder.found, folder.splits

    def usable(files):
        return [file for file in files if file not in entries or not entries[file].reason]

    train, test = usable(splits.train), usable(splits.test)
    if not train:
        raise ValueError(
            f"No image is left to train on in {printable(found.root)}: none of its "
            f"{len(splits.train)} files can be read."
        )
    classes = folder_classes.find_classes(train, splits.train_folder)
    left_out = collections.Counter(found.left_out)
    left_out.update({(folder_classes.BESIDE, name): n for name, n in splits.beside.items()})
    left_out[UNREADABLE, ""] += len(folder.files) - len(train) - len(test)
    index = {name: i for i, name in enumerate(classes)}
    unused = {file: _why_unused(file, splits.test_folder or "", index) for file in test}
    left_out.update(why for why in unused.values() if why is not None)
    test = [file for file, why in unused.items() if why is None]

    def images(files, split):
        labels = [index.get(folder_classes.first_folder(file, split), NO_LABEL) for file in files]
        known = [entries[file].checksum for file in files if file in entries]
        return ImageSet(
            items=np.array([_path(found.root, file) for file in files]),
            labels=np.array(labels),
            class_names=tuple(map(printable, classes)),
            checksums=np.array(known, np.uint32) if len(known) == len(files) else None,
            value_range=value_range,
            channels=channels,
        )

    trained = images(train, splits.train_folder)
    tested = images(test, splits.test_folder) if test else None
    parts = [_describe_train(trained, train, splits.train_folder)]
    if splits.test_folder:
        parts[0] += f", {f'{len(test):,}' if test else 'none'} to test"
    if tested:
        missing = set(range(len(classes))) - set(tested.labels.tolist())
        if missing:
            parts.append(f"no test image of {shortened([classes[i] for i in sorted(missing)])}")
    if +left_out:
        parts.append(f"left out: {describe_left_out(+left_out)}")
    parts += describe_notes(entries[file].note for file in train + test if file in entries)
    unread = len(folder.files) - len(entries)
    if unread:
        parts.append(f"{unread:,} not yet read")
    return _Contents(trained, tested, f"{printable(found.root)}: {'; '.join(parts)}")


def _why_unused(file: str, split: str, classes: dict[str, int]) -> tuple[Kind, str] | None:
    """Returns why a test image cannot be compared with a class, or None."""
    name = folder_classes.first_folder(file, split)
    if not classes:
        return TEST_NO_CLASSES, ""
    if not name:
        return TEST_UNLABELLED, ""
    return None if name in classes else (TEST_OTHER_CLASS, name)


def describe_notes(notes: typing.Iterable[str]) -> list[str]:
    """Returns what was done to the values of files as text, with the number of files."""
    counts = collections.Counter(notes)
    return [f"{counted(n, ('file', 'files'))}: {note}" for note, n in counts.items() if note]


def _describe_train(images: ImageSet, files: list[str], split: str) -> str:
    """Says how many images there are, of which classes, or why they have none."""
    count = counted(len(images), ("image", "images"))
    names = images.class_names
    if names:
        text = f"{count} in {len(names)} classes ({shortened(names, SHOWN_CLASSES)})"
        stray = [file for file, label in zip(files, images.labels, strict=True) if label < 0]
        if stray:
            text += f", {len(stray):,} of them beside the classes without a label"
            text += f" ({shortened([os.path.basename(file) for file in stray])})"
        return text
    folders = sorted({folder_classes.first_folder(file, split) for file in files} - {""})
    if not folders:
        return f"{count} without classes"
    if len(folders) == 1:
        return f"{count} without classes (only one sub-folder has images: {shortened(folders)})"
    return (
        f"{count} without classes (more than half of them lie beside the sub-folders "
        f"{shortened(folders)})"
    )


def _path(root: str, file: str) -> str:
    return file if root == "." else os.path.join(root, file)
