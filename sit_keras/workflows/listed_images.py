"""The images that an index lists: every image file of a folder, or all images of a data set.

Shapes: N images, H W image.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import stat
import typing

import numpy as np

from sit_keras.config.extras import MissingPackage
from sit_keras.data.finding import printable
from sit_keras.data.folder import find_images
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.reading import read_image
from sit_keras.data.record_address import RecordAddress
from sit_keras.data.sources import DATASETS, load_source
from sit_keras.evaluation.index import Index

_BLOCK = 2**20
_NAMED = 20  # files that cannot be read
_OTHERS = [name for name in DATASETS if ":" not in name]


class Listed(typing.NamedTuple):
    """Images with a name for each.

    Args:
        paths: the files or records, or `SOURCE#SPLIT/NUMBER` for images in memory.
        images: ImageSet.
    """

    paths: list[str]
    images: ImageSet


def list_images(
    source: str,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    value_range: tuple[float, float] | None = None,
    channels: int = 3,
) -> Listed:
    """Lists the images of a source, those of a data set with both of its splits.

    Of a folder all image files are listed, whether they can be read or not.

    Args:
        source: str. A folder, with or without `folder:` before it, or a data set as for
            `sit_keras.data.load_source`.
        data_dir, download, value_range, channels: as there.

    Raises:
        ValueError: if there is no such folder or data set, or it has no image.
    """
    folder = _folder_of(source)
    if folder is not None:
        return _files([str(path) for path in find_images(folder)], value_range, channels)
    found = load_source(source, data_dir, download, value_range=value_range, channels=channels)
    splits = {"train": found.train} | ({"test": found.test} if found.test is not None else {})
    paths = []
    for split, images in splits.items():
        if images.in_memory:
            paths += [f"{source}#{split}/{number}" for number in range(len(images))]
        else:
            paths += images.items.tolist()
    items = np.concatenate([images.items for images in splits.values()])
    labels = np.full(len(items), NO_LABEL)
    images = ImageSet(items, labels, value_range=found.train.value_range, channels=channels)
    return Listed(paths, images)


def list_pictures(
    pictures: typing.Sequence[str | os.PathLike],
    value_range: tuple[float, float] | None,
    channels: int = 3,
) -> Listed:
    """Lists picture files and those of folders.

    Raises:
        ValueError: if one of them does not exist, or a folder has no image.
    """
    files = []
    for picture in pictures:
        path = os.path.expanduser(os.fspath(picture).removeprefix("folder:"))
        if os.path.isdir(path):
            files += [str(each) for each in find_images(path)]
        elif os.path.exists(path):
            files.append(path)
        else:
            name = printable(os.fspath(picture))
            raise ValueError(f"No picture {name}: give image files, folders of them, or an index.")
    return _files(files, value_range, channels)


def contents_of(listed: Listed) -> tuple[np.ndarray, np.ndarray]:
    """Returns the SHA-256 of each image, (N,) str, and why it cannot be opened, (N,) str."""

    def examine(item):
        try:
            return _sha256(item), ""
        except OSError as error:
            return "", f"{error.strerror or error}"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(examine, listed.images.items))
    contents, errors = zip(*found, strict=True)
    return np.array(contents, object), np.array(errors, object)


def named_errors(index: Index, what: str) -> str:
    """Returns lines about the images that cannot be read.

    Args:
        index: Index, in which some have an error.
        what: str. What its images are called.
    """
    rows = np.flatnonzero(~index.ok)
    lines = [f"{len(rows):,} of {len(index):,} {what} cannot be read:"]
    for row in rows[:_NAMED]:
        path, error = (printable(str(texts[row])) for texts in (index.paths, index.errors))
        lines.append(f"  {path}: {error}")
    if len(rows) > _NAMED:
        lines.append(f"  and {len(rows) - _NAMED:,} more")
    return "\n".join(lines)


class Pixels:
    """Finds the pixels of the images of an index, where they still are.

    Args:
        index: Index.
        data_dir: as for `sit_keras.data.load_source`.

    Call arguments:
        row: int. Of the index.
        enough: as for `read_image`.

    Returns:
        (H, W, C) uint8, or None where the image is no longer there.
    """

    def __init__(self, index: Index, data_dir: str | os.PathLike | None = None):
        self.index, self._data_dir = index, data_dir
        self._splits: dict[str, ImageSet | None] | None = None
        self.missing: dict[int, str] = {}
        self._lacking = ""  # which package, without which they cannot be read
        self._digests: dict[int, str | None] = {}

    def __call__(self, row: int, enough: int | None = None) -> np.ndarray | None:
        pixels = self._find(row, enough)
        if pixels is None:
            self.missing[row] = str(self.index.paths[row])
        return pixels

    def digest(self, row: int) -> str | None:
        """Returns a hash of the shape and the pixels of an image at its full size, or None.

        Each image is read once, however often it is asked for.
        """
        if row not in self._digests:
            pixels = self(row)
            self._digests[row] = None if pixels is None else _sha256(pixels)
        return self._digests[row]

    def tell_of_missing(self) -> None:
        """Prints a line if images were asked for that are no longer there or cannot be read."""
        if self.missing:
            name = printable(next(iter(self.missing.values())))
            others = f" and {len(self.missing) - 1:,} others" if len(self.missing) > 1 else ""
            why, mend = "No longer where they were embedded", "Embed them where they are now"
            if self._lacking:
                why, mend = "Not readable on this machine", self._lacking
            print(f"{why}, so their pixels are not shown or compared: {name}{others}. {mend}.")

    def _find(self, row, enough) -> np.ndarray | None:
        path = str(self.index.paths[row])
        source, number = self.index.about["source"], path.rpartition("/")[2]
        if path.startswith(f"{source}#") and number.isdecimal():
            images = self._split(source, path.removeprefix(f"{source}#").split("/")[0])
            if images is None or int(number) >= len(images):
                return None
            return images.items[int(number)]
        value_range = self.index.about["value_range"]
        value_range = value_range and tuple(value_range)
        channels = self.index.about.get("channels", 3)  # which earlier versions do not name
        for place in (os.path.join(self.index.about["working_folder"], path), path):
            try:
                return read_image(place, enough, value_range, channels)
            except OSError:
                continue
            except MissingPackage as error:
                self._lacking = str(error)
        return None

    def _split(self, source, split) -> ImageSet | None:
        if self._splits is None:
            try:
                channels = self.index.about.get("channels", 3)
                found = load_source(source, self._data_dir, channels=channels)
                self._splits = {"train": found.train, "test": found.test}
            except ValueError:  # it is not prepared here
                self._splits = {}
            except MissingPackage as error:
                self._splits, self._lacking = {}, str(error)
        return self._splits.get(split)


def _folder_of(source: str) -> str | None:
    """Returns the folder that a source names, or None for a data set."""
    if source.startswith("folder:"):
        return source.removeprefix("folder:")
    if source.startswith(("list:", "records:", "tfds:")):
        return None
    is_folder = os.path.isdir(os.path.expanduser(source))
    if source in _OTHERS:
        if is_folder:
            print(f"{source} is taken as the data set, not as the folder here: folder:{source}.")
        return None
    if os.path.exists(os.path.expanduser(source)):
        return source
    raise ValueError(
        f"No folder {printable(source)}, and no data set of that name: give the folder of your "
        f"images, or one of {', '.join(DATASETS)}."
    )


def _files(paths: list[str], value_range, channels) -> Listed:
    labels = np.full(len(paths), NO_LABEL)
    images = ImageSet(np.array(paths), labels, value_range=value_range, channels=channels)
    return Listed(paths, images)


def _sha256(item) -> str:
    if isinstance(item, np.ndarray):
        return hashlib.sha256(repr(item.shape).encode() + item.tobytes()).hexdigest()
    address = RecordAddress.parse(str(item))
    if address is not None:
        return hashlib.sha256(address.read()).hexdigest()
    path = pathlib.Path(str(item))
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
        raise OSError("it is not a regular file")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
