"""Labels that the neighbours contradict: planted ones are found, and true ones are left alone."""

import numpy as np
import pytest

from sit_keras.evaluation.label_doubts import Doubt, contradicted_labels


def clusters(random, spread, per_class=40):
    """Features of three classes around three directions, far from the origin."""
    centres = 100 + np.repeat(10 * np.eye(3), per_class, axis=0)
    labels = np.repeat(np.arange(3), per_class)
    return (centres + spread * random.normal(size=centres.shape)).astype(np.float32), labels


def test_planted_wrong_labels_are_found_and_no_others(random):
    features, labels = clusters(random, spread=1.0)
    wrong = random.choice(120, 9, replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 3
    found = contradicted_labels(features, given)
    assert sorted(doubt.row for doubt in found) == sorted(wrong.tolist())
    for doubt in found:
        assert (doubt.label, doubt.suggested) == (given[doubt.row], labels[doubt.row])
    shares = [doubt.agreement for doubt in found]
    assert shares == sorted(shares, reverse=True) and min(shares) >= 0.7


def test_classes_that_the_features_do_not_separate_give_no_doubts(random):
    features = random.normal(size=(300, 4)).astype(np.float32)
    labels = random.integers(0, 10, 300)
    assert len(contradicted_labels(features, labels)) <= 3


def test_an_image_is_not_its_own_neighbour():
    """Three equal images: each has two neighbours, the other two."""
    features = np.array([[1.0, 0]] * 3 + [[0, 1.0]] * 3, np.float32)
    labels = np.array([0, 0, 1, 2, 2, 2])
    assert contradicted_labels(features, labels, k=2) == [Doubt(2, 1, 0, 1.0)]


def test_images_without_a_label_neither_vote_nor_are_doubted(random):
    features, labels = clusters(random, spread=1.0)
    labels = np.where(np.arange(120) % 2, labels, -1)
    labels[1] = 2
    assert [doubt.row for doubt in contradicted_labels(features, labels)] == [1]


def test_one_image_or_none_has_no_neighbour():
    assert contradicted_labels(np.ones((1, 2), np.float32), np.array([0])) == []
    assert contradicted_labels(np.ones((0, 2), np.float32), np.array([], int)) == []


@pytest.mark.parametrize("arguments", [{"k": 0}, {"agreement": 0.5}, {"agreement": 1.5}])
def test_impossible_questions_are_refused(arguments):
    with pytest.raises(ValueError, match="Labels are contradicted by k >= 1 neighbours"):
        contradicted_labels(np.ones((4, 2)), np.zeros(4, int), **arguments)
    with pytest.raises(ValueError, match="4 features, and 3 labels"):
        contradicted_labels(np.ones((4, 2)), np.zeros(3, int))
