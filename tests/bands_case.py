"""Small images of five bands and of grey, whose classes differ in what RGB would not show."""

import numpy as np
import pytest
from PIL import Image

BANDS = 5
SIDE = 20


def bands_of_class(label, count, seed=0):
    """Images (count, SIDE, SIDE, BANDS) uint8 whose classes differ in the last band alone."""
    random = np.random.default_rng([seed, label])
    images = random.integers(60, 120, (count, SIDE, SIDE, BANDS), dtype=np.uint8)
    stripes = np.arange(SIDE) // 2 % 2 * 100
    images[..., -1] += (stripes if label else stripes[:, None]).astype(np.uint8)
    return images


def write_bands(folder, each=20):
    """Writes .npy and .tif files of two classes, with a split to test on."""
    tifffile = pytest.importorskip("tifffile")
    for split, count in (("train", each), ("test", each // 2)):
        for label, name in enumerate(("across", "down")):
            place = folder / split / name
            place.mkdir(parents=True)
            for i, image in enumerate(bands_of_class(label, count, seed=len(split))):
                if i % 2:
                    np.save(place / f"{i}.npy", image)
                else:
                    tifffile.imwrite(
                        place / f"{i}.tif", image, photometric="minisblack", planarconfig="contig"
                    )
    return folder


def write_grey(folder, each=20):
    """Writes PNG files of one channel, of two classes."""
    for label, name in enumerate(("across", "down")):
        place = folder / name
        place.mkdir(parents=True)
        for i, image in enumerate(bands_of_class(label, each)):
            Image.fromarray(image[..., -1]).save(place / f"{i}.png")
    return folder
