"""Images that a text file lists by their paths, with or without classes."""

import collections
import csv
import os
import typing

import numpy as np

from sit_keras.data import manifest
from sit_keras.data.broken_files import report_broken
from sit_keras.data.finding import counted, describe_left_out, printable, shortened
from sit_keras.data.folder import (
    SHOWN_CLASSES,
    UNREADABLE,
    Survey,
    describe_notes,
)
from sit_keras.data.images import NO_LABEL, ImageSet

PREFIX = "list:"
MISSING = ("missing file", "missing files")
REPEATED = ("repeated line", "repeated lines")
_ZERO = "\0"  # no path has one, and text of 16 bits is full of them


class Listing(typing.NamedTuple):
    """What a list says.

    Args:
        path: str. The list.
        classes: the class of each file, or an empty text, by its absolute path.
        repeated: the paths of lines that name a file again, as they are written.
    """

    path: str
    classes: dict[str, str]
    repeated: list[str]


def list_folder(path: str | os.PathLike) -> str:
    """Returns the absolute folder of a list, from which its relative paths start."""
    return os.path.dirname(os.path.abspath(os.path.expanduser(path)))


def load_list(
    path: str | os.PathLike,
    strict: bool,
    value_range: tuple[float, float] | None = None,
    channels: int = 3,
) -> ImageSet:
    """Reads a list of image files, checks that each can be read, and prints what was found.

    Args:
        path: the list, see `read_list`.
        strict: bool. Refuse missing and broken files instead of naming and skipping them.
        value_range, channels: as for `sit_keras.data.reading.read_image`.

    Returns:
        The images, in the order of the list. They have classes if it names at least two.

    Raises:
        ValueError: if the list cannot be read or names no image that can be used, or (strict) one
            that cannot.
    """
    listing = read_list(path)
    there, missing = _look(listing)
    entries = manifest.check_files(listing.path, there, value_range, channels)
    reasons = {file: "there is no such file" for file in missing}
    reasons |= {file: entry.reason for file, entry in entries.items() if entry.reason}
    report_broken(listing.path, reasons, len(listing.classes), strict)
    images, text = _arrange(listing, there, missing, entries, value_range, channels)
    print(text)
    return images


def survey_list(
    path: str | os.PathLike,
    value_range: tuple[float, float] | None = None,
    read: bool = False,
    channels: int = 3,
) -> Survey:
    """Returns what `load_list` would train on; arguments and errors as for `survey_folder`."""
    listing = read_list(path)
    there, missing = _look(listing)
    look = manifest.check_files if read else manifest.remembered
    entries = look(listing.path, there, value_range, channels)
    images, text = _arrange(listing, there, missing, entries, value_range, channels)
    labelled = int(np.sum(images.labels != NO_LABEL))
    return Survey(len(images), labelled, has_test=False, text=text, train=images)


def read_list(path: str | os.PathLike) -> Listing:
    """Reads a text file of paths: one a line, and after a tab or a comma a class, or nothing.

    A path is absolute, starts with `~`, or starts from the folder of the list. A path or a class
    that has a comma, or starts with `#` or a double quote, is put in double quotes, and double
    quotes within it are doubled, as in CSV. In a line with a tab, commas need no quotes. Empty
    lines and those that start with `#` are left out.

    Args:
        path: the list, in UTF-8; bytes of paths that are not are kept.

    Raises:
        ValueError: if there is no such file, it is no text of this kind, or a file has two classes.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    classes, repeated, lines = {}, [], {}
    places: dict = {}
    folders: dict[str, str] = {}
    for number, line in enumerate(_lines(path), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, label = _fields(line, f"{printable(path)}, line {number}")
        file = os.path.join(os.path.dirname(path), os.path.expanduser(name))
        folder, base = os.path.split(file)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        first = places.setdefault((folders[folder], base), file)
        if first not in classes:
            classes[first], lines[first] = label, number
            continue
        repeated.append(name)
        if label and classes[first] and label != classes[first]:
            raise ValueError(
                f"{printable(path)}, line {number}: {printable(name)} is of class "
                f"{printable(label)} here and of class {printable(classes[first])} in line "
                f"{lines[first]}. Remove one of the two lines."
            )
        classes[first] = classes[first] or label
    if not classes:
        raise ValueError(f"{printable(path)} lists no image: write the path of one in each line.")
    return Listing(path, classes, repeated)


def _lines(path: str) -> list[str]:
    if os.path.isdir(path):
        raise ValueError(
            f"{printable(path)} is a folder: give folder:PATH for all of its images, or a text "
            "file of paths as in list:FILE."
        )
    try:
        if not os.path.isfile(path):  # a pipe would never end
            raise FileNotFoundError
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        raise ValueError(
            f"No file {printable(path)}: give a text file of paths, as in list:FILE."
        ) from None
    except OSError as error:
        raise ValueError(f"{printable(path)} cannot be read: {error.strerror}.") from error
    if _ZERO in text:
        raise ValueError(
            f"{printable(path)} is no text in UTF-8: save the list of paths as UTF-8, one a line."
        )
    return text.split("\n")  # reading has made one of each kind of line break


def _fields(line: str, place: str) -> tuple[str, str]:
    """Returns the path and the class of a line, or an empty text for the class."""
    separator = "\t" if "\t" in line else ","
    try:
        (fields,) = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise ValueError(
            f"{place}: the double quotes of {printable(line)} do not match: put the whole path in "
            'them, and write "" for one within it.'
        ) from error
    if len(fields) > 2:
        raise ValueError(
            f"{place} has {len(fields)} parts, expected a path and at most a class: put what has a "
            f"{'tab' if separator == chr(9) else 'comma'} in double quotes. Received "
            f"{printable(line)}."
        )
    name = fields[0] if line.startswith('"') else fields[0].strip()
    if not name:
        raise ValueError(f"{place} has no path: {printable(line)}.")
    return name, fields[1].strip() if len(fields) == 2 else ""


def _look(listing: Listing) -> tuple[list[str], list[str]]:
    """Returns the files that are there, and those that are not."""
    there = [file for file in listing.classes if os.path.exists(file)]
    missing = [file for file in listing.classes if not os.path.exists(file)]
    if not there:
        raise ValueError(
            f"None of the {len(missing)} files that {printable(listing.path)} lists is there; the "
            f"first is {printable(missing[0])}. Relative paths start from the folder of the list."
        )
    return there, missing


def _arrange(listing, there, missing, entries, value_range, channels) -> tuple[ImageSet, str]:
    """Returns the images that can be used, with their labels, and a line about all of it."""
    files = [file for file in there if file not in entries or not entries[file].reason]
    if not files:
        raise ValueError(
            f"No image is left to train on in {printable(listing.path)}: none of its {len(there)} "
            "files can be read."
        )
    named = [listing.classes[file] for file in files]
    names = sorted({name for name in named if name})
    classes = names if len(names) > 1 else []
    index = {name: i for i, name in enumerate(classes)}
    known = [entries[file].checksum for file in files if file in entries]
    images = ImageSet(
        items=np.array(files),
        labels=np.array([index.get(name, NO_LABEL) for name in named]),
        class_names=tuple(map(printable, classes)),
        checksums=np.array(known, np.uint32) if len(known) == len(files) else None,
        value_range=value_range,
        channels=channels,
    )
    left_out = collections.Counter((MISSING, os.path.basename(file)) for file in missing)
    left_out.update((REPEATED, name) for name in listing.repeated)
    left_out[UNREADABLE, ""] += len(there) - len(files)
    parts = [_describe(images, names)]
    if +left_out:
        parts.append(f"left out: {describe_left_out(+left_out)}")
    parts += describe_notes(entries[file].note for file in files if file in entries)
    unread = len(there) - len(entries)
    if unread:
        parts.append(f"{unread:,} not yet read")
    return images, f"{printable(listing.path)}: {'; '.join(parts)}"


def _describe(images: ImageSet, names: list[str]) -> str:
    count = counted(len(images), ("image", "images"))
    if not images.class_names:
        why = f" (only one class is named: {printable(names[0])})" if names else ""
        return f"{count} without classes{why}"
    text = f"{count} in {len(names)} classes ({shortened(names, SHOWN_CLASSES)})"
    others = int(np.sum(images.labels == NO_LABEL))
    return f"{text}, {others:,} of them without a label" if others else text
