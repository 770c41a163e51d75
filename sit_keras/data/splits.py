"""Splits of images: held-out parts, and balanced, nested subsets of the labels."""

import typing

import numpy as np
from sklearn.model_selection import train_test_split

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
    """
    candidates = np.flatnonzero(images.labels != NO_LABEL)
    if len(candidates) == 0:
        candidates = np.arange(len(images))
    num_held = round(share * len(candidates))
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
    """Returns those fractions that leave an image of every class, telling of the others."""
    smallest = int(np.bincount(images.class_labels(), minlength=len(images.class_names)).min())
    possible = tuple(share for share in fractions if round(share * smallest) >= 1)
    if len(possible) < len(fractions):
        left_out = ", ".join(f"{share:g}" for share in fractions if share not in possible)
        print(f"A class of {smallest} images has none left at {left_out} of them: left out.")
    return possible


def label_indices(
    images: ImageSet, seed: int, fraction: float | None = None, per_class: int | None = None
) -> np.ndarray:
    """Chooses the same share or number of images of every class.

    Subsets of one seed are nested: whatever is in a smaller one is in every larger one.

    Args:
        images: ImageSet, all labelled.
        seed: int.
        fraction: float in (0, 1]. Share of each class, rounded; or
        per_class: int. Number of each class. One of the two must be given.

    Returns:
        Sorted indices, (n,) int.

    Raises:
        ValueError: if neither or both are given, or a class would have no image or too few.
    """
    if (fraction is None) == (per_class is None):
        raise ValueError("Give either a fraction of the labels or a number of images per class.")
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"A fraction of the labels must lie in (0, 1], received {fraction}.")
    labels = images.class_labels()
    generator = np.random.default_rng(seed)
    chosen = []
    for index, name in enumerate(images.class_names):
        members = generator.permutation(np.flatnonzero(labels == index))
        wanted = per_class if per_class is not None else round(fraction * len(members))
        if not 1 <= wanted <= len(members):
            asked = f"{per_class} a class" if per_class is not None else f"{fraction:.2%} of them"
            raise ValueError(
                f"Class {name} has {len(members)} images, and {asked} would take {wanted}: ask for "
                f"between 1 and {len(members)}."
            )
        chosen.append(members[:wanted])
    return np.sort(np.concatenate(chosen))
