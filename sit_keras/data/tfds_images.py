"""Any image data set of TensorFlow Datasets, by its name: which of its parts are images and labels.

Shapes: N images, H W C image.
"""

import os
import pathlib
import re
import typing

import numpy as np

from sit_keras.config.extras import import_package
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.tfds_records import images_in_shards

PREFIX = "tfds:"
DEFAULT_DATA_DIR = "~/tensorflow_datasets"
# Of several splits to test on, the first is used.
_TEST_NAMES = ("test", "validation", "valid", "val")
# A version begins with a digit, which no split does: `mnist:3.0.1:train[:10%]`.
_ADDRESS = re.compile(r"(?P<name>[^:\[\]]+(:\d[\d.*]*)?)(:(?P<split>\D.*))?")


class Chosen(typing.NamedTuple):
    """Which parts of a data set are used.

    Args:
        builder: of TFDS, prepared.
        train: str. The split to train on, in the words of TFDS.
        test: str or None. That to test on.
        image, label: the names of the features; `label` is None where there are no classes.
    """

    builder: typing.Any
    train: str
    test: str | None
    image: str
    label: str | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, empty where there are none."""
        return tuple(self.builder.info.features[self.label].names) if self.label else ()


def load_tfds(
    address: str, data_dir: str | os.PathLike | None = None, download: bool = False
) -> tuple[ImageSet, ImageSet | None]:
    """Loads a data set of TFDS, and prints which of its parts are used.

    Args:
        address: str. `NAME`, `NAME/CONFIG`, with a version `NAME:1.0.0` and with a split
            `NAME:train[:10%]`; without a split, `train`.
        data_dir: the folder of TFDS; defaults to `DEFAULT_DATA_DIR`.
        download: bool. Let TFDS download and prepare what is missing.

    Returns:
        The images of that split, and those of `test` or `validation`, or None where there is none
        with classes.

    Raises:
        ValueError: if it is not prepared, has no such split, or does not have one feature of images
            of 8 bits.
    """
    chosen = choose_parts(address, data_dir, download)
    train = _read(chosen, chosen.train)
    test = _read(chosen, chosen.test) if chosen.test else None
    if test is not None and not len(test.labelled()):
        test = None
    print(describe_tfds(chosen, len(train), 0 if test is None else len(test)))
    return train, test


def choose_parts(
    address: str, data_dir: str | os.PathLike | None = None, download: bool = False
) -> Chosen:
    """Finds the splits, the images and the labels; arguments and errors as of `load_tfds`."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(
            f"tfds:{address} is no name of a data set: give tfds:NAME, tfds:NAME/CONFIG or "
            "tfds:NAME:SPLIT, such as tfds:mnist:train."
        )
    builder = _builder(found["name"], data_dir, download)
    train = found["split"] or _usual_split(address, builder)
    _count(address, builder, train)  # which refuses a split that is not there
    image, label = _features(address, builder)
    used = re.findall(r"\w+", train)
    others = [name for name in _TEST_NAMES if name in builder.info.splits and name not in used]
    is_whole = "all" not in used
    test = others[0] if label and others and is_whole else None
    return Chosen(builder, train, test, image, label)


def count_tfds(chosen: Chosen) -> tuple[int, int]:
    """Returns how many images there are to train on and to test on."""
    splits = chosen.builder.info.splits
    tested = splits[chosen.test].num_examples if chosen.test else 0
    return splits[chosen.train].num_examples, tested


def describe_tfds(chosen: Chosen, count: int, tested: int) -> str:
    """Returns a line about the parts that are used."""
    names = chosen.class_names
    classes = f"{len(names)} classes ({chosen.label})" if names else "no classes"
    test = f", {tested:,} of {chosen.test} to test" if tested else ""
    return (
        f"tfds:{chosen.builder.info.full_name}: {count:,} images ({chosen.image}) of "
        f"{chosen.train}, {classes}{test}"
    )


def _builder(name: str, data_dir, download: bool):
    tfds = import_package("tensorflow_datasets")
    import_package("importlib_resources")  # TFDS needs it and does not say so
    data_dir = pathlib.Path(data_dir or DEFAULT_DATA_DIR).expanduser()
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises many kinds for names, configs and versions
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"TFDS has no data set tfds:{name}, neither by its list nor in {data_dir} ({reason}): "
            "give a name of tensorflow.org/datasets/catalog."
        ) from error
    if builder.is_prepared():
        return builder
    if not download:
        raise ValueError(
            f"tfds:{name} is not prepared in {data_dir}: run once with --download, or point "
            f"--data_dir at the TFDS folder that has {builder.info.full_name}."
        )
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return builder


def _usual_split(address, builder) -> str:
    splits = list(builder.info.splits)
    if "train" in splits or len(splits) == 1:
        return "train" if "train" in splits else splits[0]
    raise ValueError(
        f"tfds:{address} has no split train: choose one of {', '.join(splits)}, as in "
        f"tfds:{address}:{splits[0]}."
    )


def _count(address, builder, split) -> int:
    try:
        count = builder.info.splits[split].num_examples
    except Exception as error:  # TFDS raises several kinds
        raise ValueError(
            f"tfds:{address} has no split {split!r}: choose one of "
            f"{', '.join(builder.info.splits)}, or a part of one, such as train[:10%]."
        ) from error
    if not count:
        raise ValueError(f"The split {split} of tfds:{address} has no image: choose another one.")
    return count


def _features(address, builder) -> tuple[str, str | None]:
    """Returns the name of the images and that of the classes, or None."""
    tfds = import_package("tensorflow_datasets")
    kinds, info = tfds.features, builder.info
    features = dict(info.features.items()) if hasattr(info.features, "items") else {}
    keys = info.supervised_keys
    supervised = [key for key in keys or () if isinstance(key, str)] if keys else []
    images = [
        name
        for name, kind in features.items()
        if isinstance(kind, kinds.Image) and not isinstance(kind, kinds.LabeledImage)
    ]
    named = [name for name in supervised if name in images]
    videos = [name for name, kind in features.items() if isinstance(kind, kinds.Video)]
    if not images:
        has = f"videos ({', '.join(videos)})" if videos else ", ".join(features) or "no names"
        raise ValueError(
            f"tfds:{address} has no images, but {has}: give a data set of single images."
        )
    if len(images) > 1 and len(named) != 1:
        raise ValueError(
            f"tfds:{address} has several images in each example ({', '.join(images)}), and nothing "
            "says which are meant: write those to files and give folder:PATH."
        )
    labels = [name for name, kind in features.items() if isinstance(kind, kinds.ClassLabel)]
    main = [name for name in (*supervised, "label") if name in labels]
    label = main[0] if main else labels[0] if len(labels) == 1 else None
    return (named or images)[0], label


def _read(chosen: Chosen, split: str) -> ImageSet:
    tfds = import_package("tensorflow_datasets")
    kind = chosen.builder.info.features[chosen.image]
    name = f"tfds:{chosen.builder.info.full_name}"
    if kind.np_dtype != np.uint8:
        raise ValueError(
            f"The images of {name} are {kind.shape} {np.dtype(kind.np_dtype).name}: expected "
            "images of 8 bits."
        )
    if None in kind.shape[:2]:
        names = chosen.image, chosen.label, chosen.class_names
        return images_in_shards(chosen.builder, split, *names)
    wanted = {name: True for name in (chosen.image, chosen.label) if name}
    data = chosen.builder.as_dataset(
        split=split,
        batch_size=-1,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(wanted),
    )
    pixels = np.asarray(data[chosen.image])
    labels = np.full(len(pixels), NO_LABEL)
    if chosen.label:
        labels = np.asarray(data[chosen.label]).astype(np.int64)
    return ImageSet(pixels, np.where(labels < 0, NO_LABEL, labels), chosen.class_names)
