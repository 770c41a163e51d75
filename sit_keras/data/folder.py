"""People's own images: find them, read any format and mode, name the broken ones."""

import concurrent.futures
import os
import pathlib

import numpy as np
from absl import logging

from sit_keras.data.image_formats import EXTENSIONS
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.reading import check_image

TEST_FOLDERS = ("test", "val", "validation")


def load_folder(
    path: str | os.PathLike, strict: bool, value_range: tuple[float, float] | None = None
) -> tuple[ImageSet, ImageSet | None]:
    """Finds the images under a folder and checks that each can be read.

    `PATH/train` and `PATH/val` (or `test`, `validation`) are taken as splits if they are there.
    Within a split the first level of sub-folders gives the classes; images directly in it mean
    that the folder is not labelled. Deeper levels only group.

    Args:
        path: the folder.
        strict: bool. Refuse broken files instead of naming and skipping them.
        value_range: as for `sit_keras.data.reading.read_image`.

    Returns:
        The training images, and the test images or None.

    Raises:
        ValueError: if the folder is missing, holds no image, or (strict) holds a broken one.
    """
    train_root, test_root = _split_folders(path)
    train = _load_split(train_root, _class_folders(train_root), strict, value_range)
    if test_root is None:
        return train, None
    if not train.class_names:
        return train, _load_split(test_root, (), strict, value_range)
    if _class_folders(test_root) != train.class_names:
        raise ValueError(
            f"The classes of {test_root} ({', '.join(_class_folders(test_root)) or 'none'}) are "
            f"not those of {train_root} ({', '.join(train.class_names)}): use the same sub-folders."
        )
    return train, _load_split(test_root, train.class_names, strict, value_range)


def find_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the image files under a folder, by their names, without opening them.

    Raises:
        ValueError: if the folder is missing or has none.
    """
    root = pathlib.Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(f"No folder {root}: give the folder of your images.")
    files = _image_files(root)
    if not files:
        raise _no_image(root)
    return files


def count_images(path: str | os.PathLike) -> tuple[int, int]:
    """Counts the files `load_folder` would train on, all and labelled, without opening them."""
    train_root, _ = _split_folders(path)
    count = len(_image_files(train_root))
    return count, count if _class_folders(train_root) else 0


def _split_folders(path) -> tuple[pathlib.Path, pathlib.Path | None]:
    """The folders of the training and of the test images, if there are such."""
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"No folder {root}: give the folder of your images as folder:PATH.")
    if not (root / "train").is_dir():
        return root, None
    tests = (root / name for name in TEST_FOLDERS)
    return root / "train", next((test for test in tests if test.is_dir()), None)


def _image_files(root: pathlib.Path) -> list[pathlib.Path]:
    files = (p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS)
    return sorted(p for p in files if not p.name.startswith("."))


def _no_image(root):
    return ValueError(
        f"No image in {root}: expected files that end in {', '.join(EXTENSIONS)}, at any depth."
    )


def _class_folders(root: pathlib.Path) -> tuple[str, ...]:
    """The names of the first-level sub-folders with images; none where images lie in `root`."""
    names = {path.relative_to(root).parts[0] for path in _image_files(root)}
    is_labelled = len(names) > 1 and all((root / name).is_dir() for name in names)
    return tuple(sorted(names)) if is_labelled else ()


def _load_split(
    root: pathlib.Path, class_names: tuple[str, ...], strict: bool, value_range
) -> ImageSet:
    files = _image_files(root)
    if not files:
        raise _no_image(root)
    broken = _find_broken(files, value_range)
    if broken:
        listing = "\n".join(f"  {file}: {reason}" for file, reason in list(broken.items())[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        found = f"{len(broken)} of {len(files)} files in {root} cannot be read:\n{listing}{more}"
        if strict:
            raise ValueError(f"{found}\nMend or remove them, or run without --strict to skip them.")
        if len(broken) == len(files):
            raise ValueError(f"{found}\nNo image is left to train on.")
        logging.warning("%s\nThey are skipped; --strict refuses them.", found)
    good = [file for file in files if file not in broken]
    index = {name: i for i, name in enumerate(class_names)}
    labels = [index.get(file.relative_to(root).parts[0], NO_LABEL) for file in good]
    return ImageSet(
        np.array([str(file) for file in good]),
        np.array(labels),
        class_names,
        value_range=value_range,
    )


def _find_broken(files: list[pathlib.Path], value_range) -> dict[pathlib.Path, str]:
    """Decodes every file once, since a truncated one only shows at its end."""

    from tqdm import tqdm  # which the client goes without

    def reason(file):
        try:
            check_image(file, value_range)
        except OSError as error:
            return str(error).removeprefix(f"{file}: ")
        return None

    with concurrent.futures.ThreadPoolExecutor() as pool:
        # A bar only where the standard error is a terminal.
        reasons = tqdm(pool.map(reason, files), total=len(files), unit=" images", disable=None)
        return {file: why for file, why in zip(files, reasons, strict=True) if why is not None}
