"""The labelled images of a data set, to train a classifier on and to test it on."""

import os

import numpy as np

from sit_keras.data.images import ImageSet
from sit_keras.data.sources import load_source
from sit_keras.data.splits import hold_out

TEST_SHARE = 0.2  # of a data set without labelled test images


def labelled_images(
    dataset: str,
    data_dir: str | os.PathLike | None,
    download: bool,
    seed: int,
    value_range: tuple[float, float] | None = None,
    channels: int = 3,
) -> tuple[ImageSet, ImageSet, str]:
    """Returns the labelled images of a source, those to train on and those to test on.

    Of a source without labelled test images, a fifth of the labelled images is held out, which is
    printed.

    Args:
        dataset, data_dir, download, value_range, channels: as for `sit_keras.data.load_source`.
        seed: int. Of the choice of that fifth.

    Returns:
        The training images, the test images, and the split of the latter, `test` or `held out`.

    Raises:
        ValueError: if there are no labels, or too few to hold some out.
    """
    source = load_source(dataset, data_dir, download, value_range=value_range, channels=channels)
    train = source.train.labelled()
    if not len(train):
        raise ValueError(
            f"{dataset} has no labels to evaluate with: give images in one folder for each class."
        )
    if source.test is not None and len(test := source.test.labelled()):
        _tell_what_lacks(train, test)
        return train, test, "test"
    kept, test = hold_out(train, TEST_SHARE, seed)
    if not len(test):
        raise ValueError(
            f"{dataset} has no labelled test images, and {len(train)} labelled images are too few "
            "to hold some out: give more, or a folder PATH/test."
        )
    print(
        f"{dataset} has no labelled test images, so {len(test)} of its {len(train)} labelled "
        "images are held out to test on. An encoder that was pre-trained on this data set has seen "
        "them, without their labels."
    )
    _tell_what_lacks(kept, test)
    return kept, test, "held out"


def _tell_what_lacks(train, test) -> None:
    """Prints which classes have no image to train on, and which none to test on."""
    for images, consequence in (
        (train, "training image, so they are never predicted"),
        (test, "test image, so they count in no mean over classes"),
    ):
        lacking = np.setdiff1d(np.arange(len(images.class_names)), images.labels)
        if len(lacking):
            names = ", ".join(images.class_names[i] for i in lacking[:20])
            more = f" and {len(lacking) - 20} more" if len(lacking) > 20 else ""
            print(f"Classes without a {consequence}: {names}{more}.")
