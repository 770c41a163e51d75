"""Where images come from: the embedded digits, TFDS, a user's own folder or list, or records."""

import dataclasses
import os
import pathlib

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sit_keras.config.checks import check_value_range
from sit_keras.config.extras import import_package
from sit_keras.data.channels import with_channels
from sit_keras.data.folder import Survey, load_folder, survey_folder
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.path_list import PREFIX as LIST
from sit_keras.data.path_list import load_list, survey_list
from sit_keras.data.pixel_values import UnclearValues
from sit_keras.data.reading import check_image
from sit_keras.data.records import describe_records, load_records
from sit_keras.data.tfds_images import (
    DEFAULT_DATA_DIR,
    PREFIX,
    choose_parts,
    count_tfds,
    describe_tfds,
    load_tfds,
)
from sit_keras.data.translated_digits import translate

# The TFDS splits that pre-training uses; the test split is called `test` everywhere.
TFDS_SPLITS = {
    "cifar10": ("train",),
    "cifar100": ("train",),
    "stl10": ("train", "unlabelled"),
    "tiny_imagenet": ("train",),
}
# Those that come with scikit-learn.
DIGITS = ("digits", "translated_digits")
NUM_DIGITS_TRAIN = 1437
DATASETS = (*DIGITS, *TFDS_SPLITS, "folder:PATH", "list:FILE", "records:PATH", "tfds:NAME")


@dataclasses.dataclass(frozen=True)
class Source:
    """The images of a data set.

    Args:
        name: str.
        train: ImageSet. Everything that pre-training may see, with or without labels.
        test: ImageSet or None. Labelled images that only the last judgement sees, of the classes
            of `train`; a class may lack among them.
    """

    name: str
    train: ImageSet
    test: ImageSet | None


def load_source(
    name: str,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    strict: bool = False,
    value_range: tuple[float, float] | None = None,
    channels: int = 3,
) -> Source:
    """Loads a data set by its name.

    Args:
        name: str. One of `DATASETS`.
        data_dir: the folder of TFDS; defaults to `DEFAULT_DATA_DIR`.
        download: bool. Let TFDS download and prepare what is missing. Off, the network is never
            touched.
        strict: bool. For folders and lists, refuse unreadable images instead of skipping them.
            What was found in one, and what was left out, is printed.
        value_range: (low, high) or None. For files, which values become black and white in files
            of more than 8 bits, see `sit_keras.data.reading.read_image`.
        channels: int. How many the images are to have, see `read_image`. Grey images become colours
            for 3, and colours become grey for 1.

    Raises:
        ValueError: for an unknown name, or data that are not there.
        MissingPackage: if TensorFlow Datasets is needed and not installed.
    """
    check_value_range(value_range)
    if name in DIGITS:
        return _with_channels(_load_digits(name), channels)
    if name.startswith("folder:"):
        train, test = load_folder(name.removeprefix("folder:"), strict, value_range, channels)
        return Source(name, train, test)
    if name.startswith(LIST):
        return Source(name, load_list(name.removeprefix(LIST), strict, value_range, channels), None)
    if name.startswith("records:"):
        train, test = load_records(name.removeprefix("records:"))
        print(describe_records(train, test))
        return _with_channels(Source(name, train, test), channels)
    if name.startswith(PREFIX):
        found = Source(name, *load_tfds(name.removeprefix(PREFIX), data_dir, download))
        return _with_channels(found, channels)
    builder = _prepared_builder(name, data_dir, download)
    train = _concatenate([_read_split(builder, split) for split in TFDS_SPLITS[name]])
    return _with_channels(Source(name, train, _read_split(builder, "test")), channels)


def survey_source(
    name: str,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    value_range: tuple[float, float] | None = None,
    read: bool = False,
    channels: int = 3,
) -> Survey:
    """Says what `load_source` would train on, without loading the images.

    Args:
        name, data_dir, download, value_range, channels: as for `load_source`.
        read: bool. Read the new files of a folder or a list, to know which of them can be used.

    Returns:
        Survey, whose text is empty but for folders, lists, records and `tfds:NAME`. Files count
        as they were when they were opened the last time; those that were never read count as
        images.
    """
    if name in DIGITS:
        return Survey(NUM_DIGITS_TRAIN, NUM_DIGITS_TRAIN, has_test=True)
    if name.startswith("folder:"):
        return survey_folder(name.removeprefix("folder:"), value_range, read, channels)
    if name.startswith(LIST):
        return survey_list(name.removeprefix(LIST), value_range, read, channels)
    if name.startswith("records:"):
        train, test = load_records(name.removeprefix("records:"))
        text, labelled = describe_records(train, test), len(train.labelled())
        return Survey(len(train), labelled, test is not None, text, train)
    if name.startswith(PREFIX):
        chosen = choose_parts(name.removeprefix(PREFIX), data_dir, download)
        count, tested = count_tfds(chosen)
        labelled = count if chosen.label else 0
        return Survey(count, labelled, bool(tested), describe_tfds(chosen, count, tested))
    splits = _prepared_builder(name, data_dir, download).info.splits
    counts = {split: splits[split].num_examples for split in TFDS_SPLITS[name]}
    return Survey(sum(counts.values()), counts["train"], has_test=True)


def _with_channels(source: Source, channels: int) -> Source:
    """Returns a source whose pixels have, or whose files are read with, these channels."""

    def converted(images):
        if images is None or not images.in_memory:
            if images and channels not in (1, 3):  # which their files do not become
                check_image(str(images.items[0]), channels=channels)
            return images and dataclasses.replace(images, channels=channels)
        try:
            return dataclasses.replace(images, items=with_channels(images.items, channels))
        except UnclearValues as error:
            raise ValueError(f"Of {source.name}, an image cannot be used: {error}.") from error

    return Source(source.name, converted(source.train), converted(source.test))


def _load_digits(name: str) -> Source:
    digits = load_digits()
    if name == "translated_digits":
        pixels = translate(digits.images)
    else:
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # values come as 0..16
    images = ImageSet(pixels[..., None], digits.target, tuple("0123456789"))
    train, test = train_test_split(
        np.arange(len(pixels)),
        train_size=NUM_DIGITS_TRAIN,
        stratify=digits.target,
        random_state=0,  # the same split for every run's seed
    )
    return Source(name, images.take(np.sort(train)), images.take(np.sort(test)))


def _prepared_builder(name, data_dir, download):
    if name not in TFDS_SPLITS:
        raise ValueError(f"Unknown dataset {name!r}: choose one of {', '.join(DATASETS)}.")
    tfds = import_package("tensorflow_datasets")
    import_package("importlib_resources")  # TFDS needs it and does not say so
    data_dir = pathlib.Path(data_dir or DEFAULT_DATA_DIR).expanduser()
    if name == "tiny_imagenet":
        from sit_keras.data import tiny_imagenet  # its class needs TFDS

        builder = tiny_imagenet.TinyImagenet(data_dir=data_dir)
        manual_dir = tiny_imagenet.find_manual_dir(data_dir)
        hint = f", or put {tiny_imagenet.FOLDER} (the folder or the zip file) into {data_dir}"
    else:
        builder = tfds.builder(name, data_dir=data_dir)
        manual_dir, hint = None, ""
    if builder.is_prepared():
        return builder
    if not (download or manual_dir):
        raise ValueError(
            f"{name} is not prepared in {data_dir}: run once with --download, or point --data_dir "
            f"at the TFDS folder that has {name}/{builder.version}{hint}."
        )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return builder


def _read_split(builder, split: str) -> ImageSet:
    data = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
    labels = np.asarray(data["label"]).astype(np.int64)
    labels = np.where(labels < 0, NO_LABEL, labels)
    return ImageSet(np.asarray(data["image"]), labels, tuple(builder.info.features["label"].names))


def _concatenate(parts: list[ImageSet]) -> ImageSet:
    if len(parts) == 1:
        return parts[0]
    items = np.concatenate([part.items for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return ImageSet(items, labels, parts[0].class_names)
