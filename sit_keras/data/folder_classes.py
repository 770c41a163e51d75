"""Which sub-folders of a folder are splits, and which are classes, by their names alone."""

import collections
import dataclasses
import typing

from sit_keras.data.finding import Found, printable

TRAIN_NAMES = ("train", "training")
# Of several test splits, that of the first line is used.
TEST_NAMES = (("test", "testing"), ("val", "valid", "validation", "eval"))

BESIDE = ("image beside the splits", "images beside the splits")


@dataclasses.dataclass(frozen=True)
class Splits:
    """The images to train on and to test on, as paths below one folder.

    Args:
        train_folder: str. The sub-folder of the images to train on, or "" for the whole folder.
        test_folder: str or None. That of the images to test on.
        train, test: lists of paths.
        beside: how many images lie in neither, by the sub-folder or by their name.
    """

    train_folder: str
    test_folder: str | None
    train: list[str]
    test: list[str]
    beside: collections.Counter[str]


def find_splits(found: Found) -> Splits:
    """Finds the splits of a folder.

    `train` and one of the names for a test split, in any case, are splits. `train` alone is one too
    unless it may be a class: where it has no sub-folders, and other sub-folders have images.

    Raises:
        ValueError: if two folders could be the same split, or the one to train on has no image.
    """
    counts = collections.Counter(first_folder(image) for image in found.images)
    train = _sole(found, TRAIN_NAMES, counts)
    if train is None:
        if any(name.casefold() in TRAIN_NAMES for name in found.folders) and found.images:
            names = ", ".join(name for name in found.folders if name.casefold() in TRAIN_NAMES)
            raise ValueError(
                f"No image in {names} of {printable(found.root)}, and {len(found.images)} beside "
                "it: put the images to train on there, or rename or remove that folder."
            )
        return Splits("", None, found.images, [], collections.Counter())
    test = next(filter(None, (_sole(found, names, counts) for names in TEST_NAMES)), None)
    inside = _below(found.images, train)
    has_folders = any(first_folder(image, train) for image in inside)
    if test is None and not has_folders and any(name not in ("", train) for name in counts):
        return Splits("", None, found.images, [], collections.Counter())
    tests = [] if test is None else _below(found.images, test)
    beside = collections.Counter(
        first_folder(image) or image
        for image in found.images
        if first_folder(image) not in (train, test)
    )
    return Splits(train, test, inside, tests, beside)


def first_folder(path: str, split: str = "") -> str:
    """Returns the first folder of a path below a split, or "" where the file lies in it."""
    inner = path[len(split) + 1 :] if split else path
    return inner.rpartition("/")[0].partition("/")[0]


def find_classes(images: typing.Sequence[str], split: str) -> tuple[str, ...]:
    """Returns the first-level sub-folders of a split, if they are its classes.

    They are if there are at least two of them and they hold at least half of the images.

    Args:
        images: paths, all in the split.
        split: str. The folder of the split, or "".
    """
    folders = [first_folder(image, split) for image in images]
    names = sorted({name for name in folders if name})
    is_labelled = len(names) > 1 and 2 * sum(map(bool, folders)) >= len(folders)
    return tuple(names) if is_labelled else ()


def _sole(found, names, counts) -> str | None:
    """Returns the folder of one of these names that has images, or None."""
    folders = [name for name in found.folders if name.casefold() in names and counts[name]]
    if len(folders) > 1:
        raise ValueError(
            f"{printable(found.root)} has {' and '.join(folders)}, which could be the same split: "
            "keep one of them, or put their images together."
        )
    return folders[0] if folders else None


def _below(images, folder) -> list[str]:
    return [image for image in images if image.startswith(f"{folder}/")]
