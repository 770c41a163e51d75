"""The images of a run as its encoder sees them: the map of the report, and doubtful labels.

Shapes: N images, T side of a thumbnail, C channels.
"""

import dataclasses
import os

import numpy as np

from sit_keras.data.finding import printable
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.data.record_address import RecordAddress
from sit_keras.evaluation.features import FrozenFeatures, select_features
from sit_keras.evaluation.image_map import ImageMap, image_map
from sit_keras.evaluation.label_doubts import contradicted_labels
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.plots.image_grids import to_pixels
from sit_keras.plots.tiles import Tile
from sit_keras.runs.data import RunData, shuffled

# Images in the map, and at most so many of them that were not trained on.
MAX_MAPPED, MAX_UNSEEN = 800, 400
MAX_EXAMINED = 5_000  # labels that are compared with those of their neighbours
MAX_DOUBTS = 12
THUMBNAIL, LARGE = 64, 192  # pixels


@dataclasses.dataclass(frozen=True)
class Explored:
    """Images with thumbnails, for an interactive map.

    Args:
        thumbnails: (N, T, T, 1 or 3) float32 in [0, 1].
        labels: (N,) int; `NO_LABEL` (-1) for an image without one.
        class_names: of the labels.
        is_seen: (N,) bool. Whether the encoder was trained on the image.
        map: ImageMap of all.
        doubts: tiles of the images whose labels the neighbours contradict the most.
        num_doubts, num_examined: int. Such labels, and all that were looked at.
    """

    thumbnails: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    is_seen: np.ndarray
    map: ImageMap
    doubts: list[Tile] = dataclasses.field(default_factory=list)
    num_doubts: int = 0
    num_examined: int = 0


def explore(features: FrozenFeatures, data: RunData) -> Explored:
    """Computes the map of a run's images, and the labels that their neighbours contradict.

    The map has test images or, where there are none, held-out ones, and training images beside
    them. Labels are examined among the training images and the test images.

    Args:
        features: FrozenFeatures of the run's encoder.
        data: RunData.
    """
    seed, encoder = data.config.seed, features.encoder
    unseen = data.held_out if data.test is None else data.test
    unseen = shuffled(unseen, seed, MAX_UNSEEN)
    seen = shuffled(data.train, seed, MAX_EXAMINED)
    parts = [part for part in (unseen, seen) if len(part)]
    tokens = np.concatenate([select_features(features.of(part), "tokens") for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    shown = [unseen, seen.take(np.arange(min(len(seen), MAX_MAPPED - len(unseen))))]
    count = sum(map(len, shown))
    thumbnails = [pixels_of(part, encoder, THUMBNAIL) for part in shown if len(part)]
    doubts = contradicted_labels(tokens, labels)
    return Explored(
        np.concatenate(thumbnails),
        labels[:count],
        data.train.class_names,
        np.arange(count) >= len(unseen),
        image_map(tokens[:count], labels[:count], seed),
        _doubt_tiles(doubts[:MAX_DOUBTS], parts, data, encoder),
        len(doubts),
        int(np.sum(labels != NO_LABEL)),
    )


def pixels_of(images: ImageSet, encoder: SiTBackbone, side: int) -> np.ndarray:
    """Returns what the encoder is given of each image, at the resolution of a page.

    Args:
        images: ImageSet of one image or more.
        encoder: SiTBackbone.
        side: int. Pixels of the longer side.

    Returns:
        (N, height, width, 1 or 3) float32 in [0, 1], see `visible`.
    """
    height, width, channels = encoder.image_shape
    scale = side / max(height, width)
    shape = (max(1, round(scale * height)), max(1, round(scale * width)), channels)
    preprocessing = ImagePreprocessing(shape, **dataclasses.asdict(encoder.preprocessing))
    batches = list(eval_batches(images, preprocessing))
    return to_pixels(np.concatenate(batches), encoder.preprocessing)


def image_name(images: ImageSet, row: int, folder: str | os.PathLike | None) -> str:
    """Returns what an image is called, without the folders that the data set lies in.

    Args:
        images: ImageSet.
        row: int. Of the image.
        folder: of the data set, or None.

    Returns:
        Its path within the data set; nothing where it is in memory.
    """
    if images.in_memory:
        return ""
    item = str(images.items[row])
    address = RecordAddress.parse(item)
    path = item if address is None else address.shard
    name = os.path.basename(path)
    if folder is not None:
        inside = os.path.relpath(path, folder)
        name = name if inside.startswith("..") else inside
    return printable(name if address is None else f"{name}, byte {address.position}")


def _doubt_tiles(doubts, parts, data, encoder):
    """Returns a tile for each doubt: the image, its label, and that of its neighbours."""
    tiles, names = [], data.train.class_names
    starts = np.cumsum([0, *map(len, parts)])
    for doubt in doubts:
        part = int(np.searchsorted(starts, doubt.row, side="right")) - 1
        row = int(doubt.row - starts[part])
        (pixels,) = pixels_of(parts[part].take(np.array([row])), encoder, LARGE)
        name = image_name(parts[part], row, data.folder)
        name = f"{name}: " if name else ""
        text = (
            f"{name}labelled {names[doubt.label]}; {doubt.agreement:.0%} of its neighbours are "
            f"{names[doubt.suggested]}"
        )
        tiles.append(Tile(pixels, text))
    return tiles
