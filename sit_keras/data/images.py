"""A set of images with labels, in memory or as files, and its splits."""

import dataclasses

import numpy as np

NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images with integer labels.

    Args:
        items: uint8 pixels (N, H, W, C), or file paths (N,) as strings.
        labels: (N,) int. `NO_LABEL` (-1) marks an image without one.
        class_names: the names of classes 0, 1, ...
        checksums: (N,) uint32 of the contents of the files, or None where they are not known.
        value_range: the values of files of more than 8 bits that become black and white, or None,
            see `sit_keras.data.reading.read_image`.
        channels: int. How many the files are read with; those of pixels are known.
    """

    items: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    checksums: np.ndarray | None = None
    value_range: tuple[float, float] | None = None
    channels: int = 3

    def __len__(self) -> int:
        return len(self.items)

    @property
    def in_memory(self) -> bool:
        """Whether the items are pixels of one size; otherwise they are paths of any size."""
        return self.items.dtype == np.uint8

    def take(self, indices: np.ndarray) -> "ImageSet":
        """Returns the images at `indices`, in that order."""
        checksums = None if self.checksums is None else self.checksums[indices]
        return dataclasses.replace(
            self, items=self.items[indices], labels=self.labels[indices], checksums=checksums
        )

    def labelled(self) -> "ImageSet":
        """Returns the images that have a label."""
        return self.take(np.flatnonzero(self.labels != NO_LABEL))

    def class_labels(self) -> np.ndarray:
        """Returns the labels as classes for a head.

        Raises:
            ValueError: if an image has no label (STL-10 marks its unlabelled images with -1).
        """
        missing = int(np.sum(self.labels == NO_LABEL))
        if missing:
            raise ValueError(
                f"{missing} of {len(self)} images have no label ({NO_LABEL}), so they cannot train "
                "or test a classifier: use `images.labelled()`, or a split with labels "
                "(for stl10: train or test)."
            )
        return self.labels

    def subset(self, at_most: int, seed: int) -> "ImageSet":
        """Returns a random subset of at most `at_most` images, in their own order."""
        if len(self) <= at_most:
            return self
        chosen = np.random.default_rng(seed).choice(len(self), at_most, replace=False)
        return self.take(np.sort(chosen))
