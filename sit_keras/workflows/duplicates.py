"""Finds images that are in an index several times, or in two of them.

Shapes: N images, P pairs, S pixels of a signature.
"""

import os
import typing

import numpy as np

from sit_keras.data.finding import printable
from sit_keras.evaluation.index import Index, read_index
from sit_keras.evaluation.similarity import (
    TooManyPairs,
    directions,
    mean_of,
    patterns,
    similar_pairs,
)
from sit_keras.workflows.image_sheet import SIDE, Picture, Row
from sit_keras.workflows.listed_images import Pixels
from sit_keras.workflows.result_files import check_output, write_list

# In this order: each pair has the first that fits.
KINDS = {
    "content": "the same file",
    "pixels": "the same pixels in another file",
    "near": "nearly the same, by the embedding",
    "alike": "nearly the same, by 16 x 16 pixels",
    "mirrored": "mirrored, by 16 x 16 pixels",
}
THRESHOLD = 0.97
# The least correlation of 16 x 16 pixels of one image with those of another or its mirror image.
PATTERN = 0.98
# Where the distribution is counted.
LEVELS = (0.99, 0.98, 0.97, 0.95, 0.9, 0.8)
QUANTILES = (0.5, 0.9, 0.99, 1.0)


class Duplicates(typing.NamedTuple):
    """What was found.

    Args:
        pairs: a dict for each pair: `kind`, one of `KINDS`, `first` and `second`, the paths,
            `similarity`, the cosine of the embeddings without their mean, and `pattern`, the
            correlation of 16 x 16 pixels; ordered by kind, the most similar first.
        closest: (N,) float32. For each image that is compared the similarity to the most similar
            other image; -1 where there is none.
    """

    pairs: list[dict]
    closest: np.ndarray


def duplicates(
    index: str | os.PathLike,
    against: str | os.PathLike | None = None,
    threshold: float = THRESHOLD,
    output: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Duplicates:
    """Finds equal and nearly equal images, and prints how similar all images are.

    Equal files are found by their content. Of different files those are near whose embeddings have
    at least the cosine `threshold`, after the mean of the index is subtracted; where the pixels of
    both files are equal, it is said. Mirror images, and copies that the embedding does not find,
    are found by 16 x 16 levels of grey. Of several equal files only the first is compared further.

    Args:
        index: what `embed` has written.
        against: another one of the same encoder: pairs between the two are found, and none within
            them, as for training and test images.
        threshold: float in (0, 1].
        output: a page of thumbnails (.html) or a table (.csv), or None.
        data_dir: as for `sit_keras.data.load_source`, for thumbnails of a data set of TFDS.

    Returns:
        Duplicates.

    Raises:
        ValueError: if there is no index, the two have other encoders, or the threshold is so low
            that there are too many pairs.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"--threshold is a cosine in (0, 1]; received {threshold:g}.")
    output, first = check_output(output), read_index(index)
    second = None
    if against is not None:
        second = read_index(against)
        first.require_same_space(second.about, printable(os.fspath(against)))
    other = first if second is None else second
    mine = Pixels(first, data_dir)
    pixels = mine, mine if second is None else Pixels(second, data_dir)
    kinds = _equal_contents(first, second)
    closest = _compare(first, second, threshold, kinds)
    _find_equal_pixels(kinds, first, other, pixels)
    pairs = _described(kinds, first, other)
    found = Duplicates([row for _, row in pairs], closest)
    notes = [summary(found, threshold), *distribution(closest)]
    print("\n".join(notes))
    if output is not None:

        def sections(most):
            if len(pairs) > most:
                notes.append(f"The first {most} of {len(pairs):,} pairs are shown.")
            return [_section(*pair, pixels) for pair in pairs[:most]]

        write_list(output, "Images that are there twice", notes, found.pairs, sections)
    for each in dict.fromkeys(pixels):
        each.tell_of_missing()
    return found


def summary(found: Duplicates, threshold: float) -> str:
    """Returns how many pairs of each kind there are, as a sentence."""
    counts = {kind: sum(pair["kind"] == kind for pair in found.pairs) for kind in KINDS}
    parts = [f"{count:,} {kind}" for kind, count in counts.items()]
    return (
        f"{len(found.pairs):,} pairs: {', '.join(parts)} (near: a similarity of at least "
        f"{threshold:g})."
    )


def distribution(closest: np.ndarray) -> list[str]:
    """Returns how similar each image is to the most similar other one, as two sentences.

    Args:
        closest: (N,) float32, as of `Duplicates`.
    """
    closest = closest[closest > -1]
    if not len(closest):
        return ["There are no two different images to compare."]
    values = [f"{np.quantile(closest, q):.3f} ({q:.0%})" for q in QUANTILES]
    counts = [f"{int(np.sum(closest >= level)):,} from {level:g}" for level in LEVELS]
    return [
        f"The most similar other image of {len(closest):,} images, quantiles of the similarity: "
        f"{', '.join(values)}.",
        f"Images with one at least so similar: {', '.join(counts)}. --threshold chooses.",
    ]


Kinds = dict[tuple[int, int], str]  # by the rows of both images


def _equal_contents(first: Index, second: Index | None) -> Kinds:
    place = {str(first.contents[row]): row for row in first.distinct().tolist()}
    other = first if second is None else second
    kinds = {}
    for row in np.flatnonzero(other.ok).tolist():
        original = place.get(str(other.contents[row]))
        if original is not None and (second is not None or original != row):
            kinds[original, row] = "content"
    return kinds


def _compare(first: Index, second: Index | None, threshold: float, kinds: Kinds) -> np.ndarray:
    """Adds the pairs of different content, and returns the closest similarity of each image."""
    mine = first.distinct()
    theirs = mine if second is None else np.flatnonzero(second.ok)
    other = first if second is None else second
    mean = mean_of(first)

    def add(pairs, kind):
        for a, b in zip(mine[pairs.first].tolist(), theirs[pairs.second].tolist(), strict=True):
            if second is not None or a < b:
                kinds.setdefault((a, b), kind)

    ours = directions(first.embeddings[mine], mean)
    others = None if second is None else directions(other.embeddings[theirs], mean)
    near = similar_pairs(ours, others, threshold)
    add(near, "near")
    plain = patterns(first.signatures[mine])
    for kind, mirrored in (("alike", False), ("mirrored", True)):
        within = second is None and not mirrored  # or each image is alike to itself
        others = None if within else patterns(other.signatures[theirs], mirrored)
        try:
            add(similar_pairs(plain, others, PATTERN), kind)
        except TooManyPairs:  # as of drawings with a few strokes
            print(f"Pairs are left out that are {KINDS[kind]}: there are too many of them.")
    return near.closest


def _find_equal_pixels(kinds: Kinds, first: Index, other: Index, pixels) -> None:
    """Compares the pixels of both images, where those of the signatures are equal."""
    for (a, b), kind in kinds.items():
        if kind != "near" or (first.signatures[a] != other.signatures[b]).any():
            continue
        mine = pixels[0].digest(a)
        if mine is not None and mine == pixels[1].digest(b):
            kinds[a, b] = "pixels"


def _described(kinds: Kinds, first: Index, other: Index) -> list[tuple[tuple[int, int], dict]]:
    """Returns the pairs in the order of the result, the rows with what is said of them."""
    if not kinds:
        return []
    a, b = np.array(list(kinds)).T
    mean = mean_of(first)
    cosines = np.sum(
        directions(first.embeddings[a], mean) * directions(other.embeddings[b], mean), axis=1
    )
    ours, theirs = patterns(first.signatures[a]), other.signatures[b]
    plain = np.sum(ours * patterns(theirs), axis=1)
    mirrored = np.sum(ours * patterns(theirs, mirrored=True), axis=1)
    rows = [
        {
            "kind": kind,
            "first": str(first.paths[pair[0]]),
            "second": str(other.paths[pair[1]]),
            "similarity": float(cosines[i]),
            "pattern": float(mirrored[i] if kind == "mirrored" else plain[i]),
        }
        for i, (pair, kind) in enumerate(kinds.items())
    ]
    order = {kind: i for i, kind in enumerate(KINDS)}
    both = zip(kinds, rows, strict=True)
    return sorted(both, key=lambda each: (order[each[1]["kind"]], -each[1]["similarity"]))


def _section(rows: tuple[int, int], pair: dict, pixels) -> Row:
    heading = (
        f"{KINDS[pair['kind']]}: similarity {pair['similarity']:.3f}, pattern {pair['pattern']:.3f}"
    )
    names = (pair["first"], pair["second"])
    pictures = [
        Picture(find(row, SIDE), name) for find, row, name in zip(pixels, rows, names, strict=True)
    ]
    return Row(heading, pictures)
