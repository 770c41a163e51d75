"""Finds the image files under a folder, and counts by kind what it leaves out."""

import collections
import dataclasses
import os
import re
import typing

from sit_keras.config.files import MARK
from sit_keras.data.image_formats import EXTENSIONS, OTHER_IMAGES

# What is left out: how one of them is called, and several.
Kind = tuple[str, str]
HIDDEN_FOLDER = ("hidden folder", "hidden folders")
HIDDEN_FILE = ("hidden file", "hidden files")
SYSTEM_FOLDER = ("system folder", "system folders")
RESULTS = ("folder of SiT-Keras results", "folders of SiT-Keras results")
CLOSED_FOLDER = ("folder that cannot be opened", "folders that cannot be opened")
LOOP = ("link back to a folder above it", "links back to folders above them")
REPEATED = ("further link to the same folder", "further links to the same folders")
BROKEN_LINK = ("broken link", "broken links")
NO_REGULAR_FILE = ("pipe, socket or device", "pipes, sockets or devices")
OTHER_FILE = ("other file", "other files")

# What cameras, disk stations and operating systems keep beside the images of people.
SYSTEM_FOLDERS = {
    "@eadir",
    "@recycle",
    "#recycle",
    "#snapshot",
    "~snapshot",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    "lost+found",
    "thumbnails",
}
# A folder may be linked from several places. Folders that link to one another would otherwise
# multiply without end.
MAX_PLACES = 64
# So many names are shown of what may be thousands.
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Found:
    """The images under a folder.

    Args:
        root: str. The folder.
        images: their paths below `root`, with `/` between the parts, sorted by the parts.
        folders: the names of the sub-folders of `root` that were entered.
        left_out: how many of each kind were left out, with a name, an ending or a hint.
    """

    root: str
    images: list[str]
    folders: list[str]
    left_out: collections.Counter[tuple[Kind, str]]


def find(root: str) -> Found:
    """Finds the image files under a folder at any depth, by their names, without opening them.

    Links to folders and files are followed. A folder that is linked from several places counts in
    each of them, but a link back to a folder above it is left out. So are hidden files and folders,
    system folders, and folders of results of this package.

    Args:
        root: str.

    Returns:
        Found.

    Raises:
        ValueError: if the folder cannot be opened.
    """
    found = Found(root, [], [], collections.Counter())
    try:
        identity, entries = _open(root)
    except OSError as error:
        raise ValueError(f"{printable(root)} cannot be opened: {error.strerror}.") from error
    open_folders = {identity}
    places: collections.Counter = collections.Counter()
    stack = [(iter(entries), "", identity)]  # of the folders from the root down to the present one
    while stack:
        left, prefix, identity = stack[-1]
        entry = next(left, None)
        if entry is None:
            open_folders.discard(identity)
            stack.pop()
            continue
        path = prefix + entry.name
        kind, detail, is_folder = _classify(entry)
        if kind is None and is_folder:
            try:
                identity, entries = _open(entry.path)
            except OSError:
                kind, detail = CLOSED_FOLDER, path
            else:
                kind, detail = _reason_to_pass(identity, entries, open_folders, places), path
        if kind is not None:
            found.left_out[kind, detail] += 1
        elif is_folder:
            if not prefix:
                found.folders.append(entry.name)
            places[identity] += 1
            open_folders.add(identity)
            stack.append((iter(entries), path + "/", identity))
        else:
            found.images.append(path)
    return found


def describe_left_out(left_out: collections.Counter[tuple[Kind, str]]) -> str:
    """Returns what was left out as text, such as `2 hidden files, 14 other files (.txt)`."""
    kinds: dict[Kind, collections.Counter] = {}
    for (kind, detail), count in sorted(left_out.items()):
        kinds.setdefault(kind, collections.Counter())[detail] += count
    parts = []
    for kind, details in kinds.items():
        names = [detail for detail, _ in details.most_common() if detail]
        shown = f" ({shortened(names)})" if names else ""
        parts.append(counted(details.total(), kind) + shown)
    return ", ".join(parts)


def counted(count: int, kind: Kind) -> str:
    """Returns a number of things as text, such as `1 hidden file`."""
    return f"{count:,} {kind[count != 1]}"


def shortened(names: typing.Sequence[str], most: int = _SHOWN) -> str:
    """Returns the first names as text, printable, with dots where there are more."""
    return ", ".join([*map(printable, names[:most]), *["..."][: len(names) > most]])


def printable(text: str) -> str:
    """Returns a name as text for any terminal and file: what is not UTF-8 as `\\xe9`."""
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return re.sub("[\x00-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def _open(path: str) -> tuple[tuple[int, int], list[os.DirEntry]]:
    """Returns what tells a folder from all others, and its entries by name."""
    state = os.stat(path)
    with os.scandir(path) as entries:
        return (state.st_dev, state.st_ino), sorted(entries, key=lambda entry: entry.name)


def _classify(entry: os.DirEntry) -> tuple[Kind | None, str, bool]:
    """Returns why an entry is left out (or None), with a detail, and whether it is a folder."""
    name = entry.name
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError:  # a link to itself, or to where one may not look
        return BROKEN_LINK, name, False
    if name.startswith("."):
        return (HIDDEN_FOLDER, name, True) if is_folder else (HIDDEN_FILE, "", False)
    if is_folder:
        return (SYSTEM_FOLDER if name.casefold() in SYSTEM_FOLDERS else None), name, True
    ending = os.path.splitext(name)[1].lower()
    if not is_file:
        is_broken = entry.is_symlink() and not os.path.exists(entry.path)
        return (BROKEN_LINK if is_broken else NO_REGULAR_FILE), name, False
    if ending in EXTENSIONS:
        return None, "", False
    if ending in OTHER_IMAGES:
        return (ending, ending), OTHER_IMAGES[ending], False
    return OTHER_FILE, ending or "no ending", False


def _reason_to_pass(identity, entries, open_folders, places) -> Kind | None:
    """Returns why a folder that can be opened is not entered, or None."""
    if any(entry.name == MARK for entry in entries):
        return RESULTS
    if identity in open_folders:
        return LOOP
    return REPEATED if places[identity] >= MAX_PLACES else None
