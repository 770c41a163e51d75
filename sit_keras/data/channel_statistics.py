"""The mean and the deviation of each channel of images, for networks of other than RGB images."""

import numpy as np

from sit_keras.data.images import ImageSet
from sit_keras.data.reading import read_image

MOST_IMAGES = 2_000  # that are looked at
_ENOUGH = 64  # pixels of the short side at which files are read
LEAST_STD = 1 / 255  # of a channel that is constant, or nearly so


def channel_statistics(
    images: ImageSet, seed: int
) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Measures the channels of images, or of some of them.

    Args:
        images: ImageSet of one image or more.
        seed: int. Of the choice, where there are more than `MOST_IMAGES`.

    Returns:
        The means and the deviations of pixels in [0, 1], one for each channel and rounded to four
        digits, and the number of images that were looked at.
    """
    some = images.subset(MOST_IMAGES, seed)
    sums, squares, pixels = np.zeros(()), np.zeros(()), 0
    for item in some.items:
        if not images.in_memory:
            item = read_image(str(item), _ENOUGH, images.value_range, images.channels)
        values = item.reshape(-1, item.shape[-1]) / 255.0
        sums, squares = sums + values.sum(axis=0), squares + (values**2).sum(axis=0)
        pixels += len(values)
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    std = np.maximum(std, LEAST_STD)
    means, deviations = (tuple(np.round(each, 4).tolist()) for each in (mean, std))
    return means, deviations, len(some)
