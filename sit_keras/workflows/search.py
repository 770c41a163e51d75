"""Finds the images of an index that are most like some pictures.

Shapes: Q queries, N images, E features.
"""

import os
import typing

import numpy as np

from sit_keras.data.finding import printable
from sit_keras.evaluation.index import SIGNATURE_SIDE, Index, is_index, read_index
from sit_keras.evaluation.similarity import MIN_CENTRED, directions, mean_of, nearest
from sit_keras.models.preset_names import is_name
from sit_keras.workflows.embedding import Embedder
from sit_keras.workflows.image_sheet import SIDE, Picture, Row
from sit_keras.workflows.listed_images import (
    Pixels,
    contents_of,
    list_pictures,
    named_errors,
)
from sit_keras.workflows.result_files import check_output, write_list


def search(
    index: str | os.PathLike,
    query: typing.Sequence[str | os.PathLike],
    k: int = 10,
    output: str | os.PathLike | None = None,
    encoder: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
) -> list[dict]:
    """Finds the k most similar images for each query, by the cosine of their embeddings.

    The mean of the index is subtracted first, since the cosines of one encoder otherwise all lie
    near 1. Every image is compared.

    Args:
        index: what `embed` has written.
        query: image files and folders of them, or one other index of the same encoder.
        k: int.
        output: a page of thumbnails (.html) or a table (.csv), or None.
        encoder: where the encoder of the index is now, or None for where it was.
        data_dir: as for `sit_keras.data.load_source`, for thumbnails of a data set of TFDS.

    Returns:
        A dict for each query and rank: `query`, `rank`, `path`, `similarity` and `same_content`,
        whether it is the same file.

    Raises:
        ValueError: if there is no index, no query that can be read, or they have other encoders.
    """
    output, found = check_output(output), read_index(index)
    if k < 1:
        raise ValueError(f"--k is a number of images from 1; received {k}.")
    if isinstance(query, (str, os.PathLike)):
        raise ValueError(f"Queries are a list, such as [{os.fspath(query)!r}].")
    asked = _queries(found, query, encoder)
    rows = np.flatnonzero(found.ok)
    if k > len(rows):
        print(f"The index has {len(rows):,} images, so that many are shown instead of {k}.")
        k = len(rows)
    if len(found.distinct()) < MIN_CENTRED:
        print(
            f"With fewer than {MIN_CENTRED} different images the mean of the index is not "
            "subtracted, and all similarities lie close to 1."
        )
    mean = mean_of(found)
    bank = directions(found.embeddings[rows], mean)
    near, cosines = nearest(directions(asked.embeddings, mean), bank, k)
    near = rows[near]
    answers = [
        {
            "query": str(asked.paths[i]),
            "rank": rank + 1,
            "path": str(found.paths[near[i, rank]]),
            "similarity": float(cosines[i, rank]),
            "same_content": bool(found.contents[near[i, rank]] == asked.contents[i]),
        }
        for i in range(len(asked))
        for rank in range(k)
    ]
    if output is not None:
        notes = [
            f"The {k} most similar of {len(rows):,} images, by the cosine of their embeddings. "
            "1 is the same, 0 as different as two images that are chosen at random."
        ]
        shown, queries = Pixels(found, data_dir), Pixels(asked, data_dir)

        def sections(most):
            if len(asked) > most:
                notes.append(f"The first {most} of {len(asked):,} queries are shown.")
            return [
                _section(answers[i * k : (i + 1) * k], queries(i, SIDE), near[i], shown)
                for i in range(min(most, len(asked)))
            ]

        write_list(output, "The most similar images", notes, answers, sections)
        shown.tell_of_missing()
    return answers


def _section(answers: list[dict], pixels, rows, shown: Pixels) -> Row:
    query = Picture(pixels, "query")
    others = [
        Picture(
            shown(int(row), SIDE),
            f"{each['rank']}. {each['similarity']:.3f} {os.path.basename(each['path'])}"
            f"{' (the same file)' * each['same_content']}",
        )
        for row, each in zip(rows, answers, strict=True)
    ]
    return Row(answers[0]["query"], [query, *others])


def _queries(index: Index, query, encoder) -> Index:
    """Returns the queries that can be read, as an index."""
    if len(query) == 1 and is_index(query[0]):
        asked = read_index(query[0])
        index.require_same_space(asked.about, printable(os.fspath(query[0])))
    else:
        asked = _embedded(index, query, encoder)
    broken = np.flatnonzero(~asked.ok)
    if len(broken):
        print(named_errors(asked, "queries"))
    if len(broken) == len(asked):
        raise ValueError("None of the queries can be read: give image files or folders of them.")
    return asked.take(np.flatnonzero(asked.ok))


def _embedded(index: Index, query, encoder) -> Index:
    """Returns the embeddings of picture files, by the encoder of the index."""
    if any(map(is_index, query)):
        raise ValueError("Queries are pictures, or one index alone.")
    value_range = index.about["value_range"]
    name = encoder or _place_of(index)
    embedder = Embedder(name, index.about["features"])
    listed = list_pictures(query, value_range and tuple(value_range), embedder.channels)
    contents, errors = contents_of(listed)
    index.require_same_space({**index.about, "space": embedder.space, "encoder": name}, "The query")
    rows = np.flatnonzero(contents != "")
    size = (len(contents), index.embeddings.shape[1])
    embeddings = np.zeros(size, np.float32)
    signatures = np.zeros((len(contents), SIGNATURE_SIDE**2), np.uint8)
    if len(rows):
        parts = list(embedder(listed.images.take(rows)))
        columns = (np.concatenate(each) for each in zip(*parts, strict=True))
        embeddings[rows], signatures[rows], errors[rows] = columns
    about = {**index.about, "source": "", "working_folder": os.getcwd()}
    texts = np.array(listed.paths), contents.astype(str)
    return Index(*texts, embeddings, signatures, errors.astype(str), about)


def _place_of(index: Index) -> str:
    """Returns the encoder of an index, by its name or the place where it was."""
    name = index.about["encoder"]
    if is_name(name) or "://" in name:
        return name
    return os.path.join(index.about["working_folder"], os.path.expanduser(name))
