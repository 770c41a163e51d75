"""Copies and wrong labels that are planted among CIFAR-10's 60,000 images, and how many are found.

    python -m benchmarks.planted --data_dir=DIR [--images=60000] [--encoder=sit_cifar10_cpu]

writes the images as PNG files into a temporary folder with altered copies of some of them, gives
some of the training images another label, embeds all, and prints what `duplicates` and the doubtful
labels of the report find: precision and recall by kind, seconds, and the largest memory.
"""

import argparse
import pathlib
import resource
import tempfile
import time

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from sit_keras.data.sources import load_source
from sit_keras.evaluation.label_doubts import contradicted_labels
from sit_keras.workflows.duplicates import duplicates
from sit_keras.workflows.embed import embed

# Each kind of altered copy: the file's ending, and what is done to the image before it is saved.
ALTERED = {
    "exact": ("png", lambda image: image),
    "jpeg 60": ("jpg", lambda image: image),
    "half as large": ("png", lambda image: image.resize((16, 16), Image.Resampling.BOX)),
    "brighter by a fifth": ("png", lambda image: ImageEnhance.Brightness(image).enhance(1.2)),
    "mirrored": ("png", ImageOps.mirror),
}
WRONG_LABELS = 0.01


def write_images(folder: pathlib.Path, images: np.ndarray, copies: int, seed: int) -> dict:
    """Writes images and altered copies of some of them.

    Args:
        folder: an empty one.
        images: (N, H, W, 3) uint8.
        copies: int. How many of each kind.
        seed: int. Of which images are copied.

    Returns:
        The kind of each planted pair, by the names of its two files in order.
    """
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{i:05d}.png", compress_level=1)
    chosen = np.random.default_rng(seed).choice(len(images), (len(ALTERED), copies), replace=False)
    planted = {}
    for (kind, (ending, alter)), rows in zip(ALTERED.items(), chosen, strict=True):
        for i in rows.tolist():
            copy = folder / f"{i:05d}_{kind.replace(' ', '_')}.{ending}"
            alter(Image.fromarray(images[i])).save(copy, quality=60)
            planted[f"{i:05d}.png", copy.name] = kind
    return planted


def tell_pairs(found: list[dict], planted: dict) -> None:
    """Prints how many of the planted pairs are among those found, and which else there are."""
    names = {}
    for pair in found:
        both = sorted(pathlib.Path(pair[end]).name for end in ("first", "second"))
        names[tuple(both)] = pair["kind"]
    for kind in ALTERED:
        pairs = [pair for pair, altered in planted.items() if altered == kind]
        print(f"  {kind}: {sum(pair in names for pair in pairs)} of {len(pairs)} found")
    others = [kind for pair, kind in names.items() if pair not in planted]
    counts = {kind: others.count(kind) for kind in sorted(set(others))}
    print(f"  pairs that were not planted: {counts or 'none'}")


def tell_labels(features: np.ndarray, labels: np.ndarray, num_classes: int, seed: int) -> None:
    """Prints how many of some wrong labels are doubted, and how many others are."""
    random = np.random.default_rng(seed)
    wrong = random.choice(len(labels), round(WRONG_LABELS * len(labels)), replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + random.integers(1, num_classes, len(wrong))) % num_classes
    for agreement in (0.7, 0.9, 1.0):
        doubts = {doubt.row: doubt for doubt in contradicted_labels(features, given, 10, agreement)}
        hits = [i for i in wrong.tolist() if i in doubts]
        right = sum(doubts[i].suggested == labels[i] for i in hits)
        print(
            f"  {agreement:.0%} of 10 neighbours: {len(hits)} of {len(wrong)} wrong labels found "
            f"({right} with the right one), {len(doubts) - len(hits)} other labels doubted; "
            f"recall {len(hits) / len(wrong):.0%}, precision {len(hits) / max(1, len(doubts)):.0%}"
        )


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB at the most"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__)
    parser.add_argument("--data_dir", help="where TensorFlow Datasets keeps its data")
    parser.add_argument("--images", type=int, default=60_000, help="how many of CIFAR-10's")
    parser.add_argument("--copies", type=int, default=200, help="of each kind (200)")
    parser.add_argument("--encoder", default="sit_cifar10_cpu", help="a run or the name of one")
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.97, 0.98, 0.99])
    options = parser.parse_args()
    source = load_source("cifar10", data_dir=options.data_dir)
    images = np.concatenate([source.train.items, source.test.items])[: options.images]
    labels = np.concatenate([source.train.labels, source.test.labels])[: options.images]
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "images")
        folder.mkdir()
        planted = write_images(folder, images, options.copies, seed=0)
        start = time.perf_counter()
        path = pathlib.Path(place, "index.npz")
        index = embed(str(folder), options.encoder, path)
        seconds = time.perf_counter() - start
        print(f"embed: {len(index.paths):,} files, {seconds:.0f} s, {memory()}")
        for threshold in options.thresholds:
            start = time.perf_counter()
            found = duplicates(path, threshold=threshold)
            print(f"duplicates, {time.perf_counter() - start:.0f} s, {memory()}")
            tell_pairs(found.pairs, planted)
        originals = np.array(["_" not in pathlib.Path(each).name for each in index.paths])
        start = time.perf_counter()
        tell_labels(index.embeddings[originals], labels, len(source.train.class_names), seed=0)
        print(f"doubtful labels: {time.perf_counter() - start:.0f} s, {memory()}")


if __name__ == "__main__":
    main()
