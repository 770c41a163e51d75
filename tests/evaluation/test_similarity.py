"""Similarities in blocks are those of whole matrices, and the mean is what is subtracted."""

import numpy as np
import pytest

from sit_keras.evaluation import similarity
from sit_keras.evaluation.features import unit
from sit_keras.evaluation.index import Index
from sit_keras.evaluation.similarity import (
    TooManyPairs,
    directions,
    mean_of,
    nearest,
    patterns,
    similar_pairs,
)


@pytest.fixture(params=[7, 10_000], ids=["blocks", "whole"])
def block(request, monkeypatch):
    monkeypatch.setattr(similarity, "MAX_SIMILARITIES", request.param)


def index_of(embeddings, contents):
    count = len(embeddings)
    return Index(
        np.array(["p"] * count), np.array(contents), np.array(embeddings, np.float32),
        np.zeros((count, 256), np.uint8), np.array([""] * count), {},
    )  # fmt: skip


def test_the_nearest_are_those_of_a_whole_sort(block, random):
    bank, queries = unit(random.normal(size=(23, 4))), unit(random.normal(size=(9, 4)))
    rows, cosines = nearest(queries, bank, 5)
    expected = np.argsort(-(queries @ bank.T), axis=1)[:, :5]
    assert (rows == expected).all()
    assert np.allclose(cosines, np.sort(queries @ bank.T, axis=1)[:, :-6:-1])


def test_of_equally_similar_images_the_first_comes_first():
    rows, _ = nearest(np.eye(2)[:1], np.array([[0.0, 1], [1, 0], [1, 0]]), 3)
    assert rows.tolist() == [[1, 2, 0]]


def test_pairs_within_are_listed_once(block, random):
    x = unit(random.normal(size=(15, 3)))
    found = similar_pairs(x, None, 0.7)
    whole = x @ x.T
    expected = {(i, j) for i in range(15) for j in range(i + 1, 15) if whole[i, j] >= 0.7}
    assert (
        expected and set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    )
    assert len(found.first) == len(expected)
    assert np.allclose(found.similarity, whole[found.first, found.second])
    np.fill_diagonal(whole, -1)
    assert np.allclose(found.closest, whole.max(axis=1))


def test_pairs_between_two(block, random):
    a, b = unit(random.normal(size=(9, 3))), unit(random.normal(size=(14, 3)))
    found = similar_pairs(a, b, 0.6)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == set(
        map(tuple, np.argwhere(a @ b.T >= 0.6).tolist())
    )
    assert np.allclose(found.closest, (a @ b.T).max(axis=0))


def test_no_and_one_image_have_no_pair():
    for count in (0, 1):
        found = similar_pairs(np.ones((count, 1), np.float32), None, 0.5)
        assert len(found.first) == 0 and found.closest.tolist() == [-1] * count


def test_more_pairs_than_anybody_could_look_at_are_refused(monkeypatch):
    monkeypatch.setattr(similarity, "MAX_PAIRS", 5)
    with pytest.raises(TooManyPairs, match="More than 5 pairs .* at least 0.5: give a higher"):
        similar_pairs(np.ones((4, 1), np.float32), None, 0.5)


def test_the_mean_is_that_of_the_distinct_images():
    embeddings = [[100.0 + i, 7.0] for i in range(10)]
    index = index_of([*embeddings, embeddings[0]], [*"abcdefghij", "a"])
    assert mean_of(index).tolist() == [104.5, 7.0]
    # Without it all cosines would be above 0.999.
    x = directions(index.embeddings, mean_of(index))
    assert np.allclose(x[0] @ x[9], -1) and np.allclose(x[0] @ x[10], 1)
    assert mean_of(index_of(embeddings[:9], [*"abcdefghi"])) == 0.0


def test_a_signature_correlates_with_its_mirror_image_and_a_blank_one_with_nothing(random):
    image = random.integers(0, 256, (16, 16)).astype(np.uint8)
    blank = np.full((16, 16), 200, np.uint8)
    blank[0, 0] = 203  # the noise of a JPEG
    rows = np.stack([image, image[:, ::-1], image[::-1], blank]).reshape(4, -1)
    correlation = patterns(rows) @ patterns(rows, mirrored=True).T
    assert np.allclose(correlation[0, 1], 1) and abs(correlation[0, 2]) < 0.5
    assert (correlation[3] == 0).all()
    # A brighter image of less contrast is the same pattern.
    paler = (image // 2 + 100).astype(np.uint8).reshape(1, -1)
    assert (patterns(paler) @ patterns(rows[:1]).T).item() > 0.999
