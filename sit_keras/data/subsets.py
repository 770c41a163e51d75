"""Balanced, nested subsets of labelled images, for learning from few labels."""

import typing

import numpy as np

from sit_keras.data.images import ImageSet


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
