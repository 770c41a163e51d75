"""Splits of images: held-out parts, and balanced, nested subsets of the labels."""

import typing

import numpy as np
from sklearn.model_selection import train_test_split

from sit_keras.data.finding import counted
from sit_keras.data.images import NO_LABEL, ImageSet


def hold_out(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Splits images in two: those to train on, and those held out for validation.

    Held-out images are shuffled by the seed and drawn from the labelled images where there are any,
    in equal shares of each class. A class of a single image stays among those to train on, unless
    too few others are left to hold out. Where fewer images are held out (or kept) than there are
    classes, they are drawn without regard to the classes.

    Args:
        images: ImageSet.
        share: float in [0, 1). Share of the (labelled) images to hold out.
        seed: int.

    Returns:
        (kept, held out); the second is empty when the share rounds to none.

    Raises:
        ValueError: when the share rounds to all (labelled) images.
    """
    candidates = np.flatnonzero(images.labels != NO_LABEL)
    what, more = ("labelled image", "labelled images"), "label more images"
    if len(candidates) == 0:
        candidates, what, more = np.arange(len(images)), ("image", "images"), "use more images"
    num_held = round(share * len(candidates))
    if num_held and num_held == len(candidates):
        raise ValueError(
            f"holdout={share:g} of {counted(num_held, what)} holds out all of them, and at least "
            f"one must be left to train on: lower --holdout, or {more}."
        )
    held = np.array([], dtype=int)
    if num_held:
        _, inverse, counts = np.unique(
            images.labels[candidates], return_inverse=True, return_counts=True
        )
        shared = candidates[counts[inverse] > 1]
        if num_held < len(shared):
            candidates = shared
        labels = images.labels[candidates]
        counts = np.unique(labels, return_counts=True)[1]
        smaller = min(num_held, len(candidates) - num_held)
        held = train_test_split(
            candidates,
            test_size=num_held,
            stratify=labels if counts.min() > 1 and len(counts) <= smaller else None,
            random_state=seed,
        )[1]
    kept = np.setdiff1d(np.arange(len(images)), held)
    return images.take(kept), images.take(np.sort(held))


def label_subset(
    images: ImageSet, seed: int, fraction: float | None = None, per_class: int | None = None
) -> ImageSet:
    """Returns the images that `label_indices` chooses."""
    return images.take(label_indices(images, seed, fraction, per_class))


def possible_fractions(images: ImageSet, fractions: typing.Sequence[float]) -> tuple[float, ...]:
    """Returns those fractions that leave images of most classes, telling of the others."""
    counts = _class_sizes(images)
    possible = tuple(share for share in fractions if _is_possible(share, counts))
    if len(possible) < len(fractions):
        left_out = ", ".join(f"{share:g}" for share in fractions if share not in possible)
        print(f"Most classes would have no image left at {left_out} of the labels: left out.")
    return possible


def label_indices(
    images: ImageSet, seed: int, fraction: float | None = None, per_class: int | None = None
) -> np.ndarray:
    """Chooses the same share or number of images of every class.

    Subsets of one seed are nested: whatever is in a smaller one is in every larger one. Of a class
    that is too small for the share, one image is taken, which is printed. Classes without an image
    are passed over.

    Args:
        images: ImageSet, all labelled.
        seed: int.
        fraction: float in (0, 1]. Share of each class, rounded; or
        per_class: int. Number of each class. One of the two must be given.

    Returns:
        Sorted indices, (n,) int.

    Raises:
        ValueError: if neither or both are given, if a class has fewer than `per_class` images, or
            most classes would have no image.
    """
    if (fraction is None) == (per_class is None):
        raise ValueError("Give either a fraction of the labels or a number of images per class.")
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"A fraction of the labels must lie in (0, 1], received {fraction}.")
    labels, counts = images.class_labels(), _class_sizes(images)
    smallest = min(counts, key=counts.__getitem__)
    if per_class is not None and not 1 <= per_class <= counts[smallest]:
        raise ValueError(
            f"Class {images.class_names[smallest]} has {counts[smallest]} images, and {per_class} "
            f"a class would take {per_class}: ask for between 1 and {counts[smallest]}."
        )
    if fraction is not None and not _is_possible(fraction, counts):
        raise ValueError(
            f"Class {images.class_names[smallest]} has {counts[smallest]} images, and "
            f"{fraction:.2%} of them would take 0, as of most classes: ask for a larger share."
        )
    share = fraction or 0.0
    wanted = {i: per_class or round(share * count) for i, count in counts.items()}
    small = [images.class_names[i] for i, number in wanted.items() if number == 0]
    if small:
        print(f"{', '.join(small)}: too small for {fraction:.2%} of its images, so one is taken.")
    generator = np.random.default_rng(seed)
    chosen = []
    for index in range(len(images.class_names)):
        members = generator.permutation(np.flatnonzero(labels == index))
        chosen.append(members[: max(1, wanted.get(index, 0))])
    return np.sort(np.concatenate(chosen))


def _class_sizes(images) -> dict[int, int]:
    """Returns the number of images of each class that has any."""
    classes, counts = np.unique(images.class_labels(), return_counts=True)
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def _is_possible(share, counts) -> bool:
    """Whether a share of the labels leaves images of most classes."""
    return sum(round(share * count) == 0 for count in counts.values()) <= len(counts) / 2
