"""Scores of predictions: by hand, and against resampling image by image."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from sit_keras.data.images import ImageSet
from sit_keras.evaluation.scores import gain, largest_class_scores, score, scores


def image_set(labels, names):
    return ImageSet(np.zeros((len(labels), 2, 2, 3), np.uint8), np.asarray(labels), names)


def test_a_constant_answer_on_unequal_classes_has_a_high_accuracy_and_nothing_else():
    """90, 6 and 4 images: F1 is 2 * 0.9 / 1.9 for the first class and 0 for the others."""
    labels = np.repeat([0, 1, 2], [90, 6, 4])
    found = score(np.zeros(100, int), labels)
    assert found["accuracy"] == 0.9
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx(2 * 0.9 / 1.9 / 3)
    low, high = found["accuracy_interval"]
    # The quantiles of the binomial distribution of 100 trials are 0.84 and 0.95.
    assert low == pytest.approx(0.84, abs=0.011) and high == pytest.approx(0.95, abs=0.011)
    assert found["balanced_accuracy_interval"] == pytest.approx([1 / 3, 1 / 3])


def test_the_largest_class_is_that_of_the_training_images():
    train = image_set([1, 1, 1, 0, 2], ("a", "b", "c"))
    test = image_set([0, 0, 0, 1], ("a", "b", "c"))
    found = largest_class_scores(train, test)
    assert (found["class"], found["accuracy"], found["balanced_accuracy"]) == ("b", 0.25, 0.5)
    assert found["macro_f1"] == pytest.approx(0.2)  # F1 of b is 2 * 0.25 / 1.25, of a 0


def test_classes_without_a_test_image_count_in_no_mean():
    """Of 2 and 1 images, 1 and 1 are right; one image is taken for the class that lacks."""
    found = score(np.array([0, 2, 1]), np.array([0, 0, 1]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_the_intervals_equal_those_of_resampled_images(random):
    labels = random.choice(4, 300, p=(0.7, 0.2, 0.08, 0.02))
    predicted = np.where(random.random(300) < 0.6, labels, random.integers(0, 4, 300))
    found = score(predicted, labels)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    rows = random.integers(0, 300, (4_000, 300))
    right = predicted == labels
    expected = np.percentile(right[rows].mean(axis=1), (2.5, 97.5))
    np.testing.assert_allclose(found["accuracy_interval"], expected, atol=0.01)
    # Each class by itself.
    each = np.mean(
        [
            random.choice(right[labels == i], (4_000, np.sum(labels == i))).mean(axis=1)
            for i in range(4)
        ],
        axis=0,
    )
    expected = np.percentile(each, (2.5, 97.5))
    np.testing.assert_allclose(found["balanced_accuracy_interval"], expected, atol=0.02)


def test_the_intervals_follow_from_the_seed():
    labels = np.arange(50) % 3
    predicted = np.where(np.arange(50) < 30, labels, 0)
    assert score(predicted, labels, 1) == score(predicted, labels, 1)
    assert score(predicted, labels, 1) != score(predicted, labels, 2)


def test_the_gain_over_another_classifier_is_paired():
    """Both are wrong on the same half: nothing differs, however few images there are."""
    labels = np.arange(40) % 4
    same = np.where(np.arange(40) < 20, labels, (labels + 1) % 4)
    nothing = gain(same, same, labels)
    assert nothing["accuracy"] == nothing["balanced_accuracy"] == 0
    assert nothing["accuracy_interval"] == nothing["balanced_accuracy_interval"] == [0.0, 0.0]
    better = gain(labels, same, labels)
    assert better["accuracy"] == better["balanced_accuracy"] == 0.5
    assert gain(same, labels, labels)["accuracy"] == -0.5


def test_a_gain_in_a_rare_class_counts_as_much_in_the_balanced_accuracy():
    """Of 90, 6 and 4 images the first all, 3 and 2 are right against the first ones alone."""
    labels = np.repeat([0, 1, 2], [90, 6, 4])
    half = np.where((np.arange(100) % 2 == 0) | (labels == 0), labels, 0)
    found = gain(half, np.zeros(100, int), labels)
    assert found["accuracy"] == pytest.approx(0.05)
    assert found["balanced_accuracy"] == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)


def test_the_intervals_of_a_gain_equal_those_of_resampled_images(random):
    labels = random.choice(3, 300, p=(0.7, 0.2, 0.1))
    one, other = (
        np.where(random.random(300) < share, labels, (labels + 1) % 3) for share in (0.8, 0.6)
    )
    found = gain(one, other, labels)
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, one) - balanced_accuracy_score(labels, other)
    )
    difference = (one == labels).astype(float) - (other == labels)
    drawn = difference[random.integers(0, 300, (4_000, 300))].mean(axis=1)
    expected = np.percentile(drawn, (2.5, 97.5))
    np.testing.assert_allclose(found["accuracy_interval"], expected, atol=0.01)
    each = [
        random.choice(difference[labels == i], (4_000, np.sum(labels == i))).mean(axis=1)
        for i in range(3)
    ]
    expected = np.percentile(np.mean(each, axis=0), (2.5, 97.5))
    np.testing.assert_allclose(found["balanced_accuracy_interval"], expected, atol=0.02)


def test_a_single_test_image_has_scores():
    found = score(np.array([4]), np.array([4]))
    assert found["accuracy"] == found["balanced_accuracy"] == found["macro_f1"] == 1.0
    assert found["accuracy_interval"] == [1.0, 1.0]


def test_a_class_without_a_test_image_has_an_empty_row_of_the_confusion_matrix(tmp_path):
    test = image_set([0, 0, 2], ("a", "b", "c"))
    found = scores(np.array([0, 1, 2]), test, tmp_path / "new")
    assert found["confusion"] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert found["per_class"] == {"a": 0.5, "c": 1.0}
    assert (tmp_path / "new" / "confusion.png").stat().st_size > 1000


def test_a_confusion_matrix_of_very_many_classes_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sit_keras.evaluation.scores.MAX_CONFUSION", 2)
    few, many = image_set([0, 1], ("a", "b")), image_set([0, 1, 2], ("a", "b", "c"))
    assert scores(np.array([0, 0]), few, tmp_path)["confusion"] == [[1, 0], [1, 0]]
    found = scores(np.array([0, 0, 2]), many, tmp_path)
    assert "confusion" not in found and found["per_class"] == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert "confusion matrix of 3 classes is too large" in capsys.readouterr().out
