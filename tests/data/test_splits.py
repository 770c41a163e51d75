import numpy as np
import pytest

from sit_keras.data.images import ImageSet
from sit_keras.data.sources import load_source
from sit_keras.data.splits import label_subset, possible_fractions


@pytest.fixture(scope="module")
def images():
    """Seven classes of 20, 30, ... images, each image its own number."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(7), np.arange(20, 90, 10)))
    numbers = np.arange(len(labels))
    pixels = np.stack([numbers // 256, numbers % 256, labels], -1).astype(np.uint8)
    return ImageSet(pixels[:, None, None], labels, tuple("abcdefg"))


def numbers(images):
    return set((images.items[:, 0, 0, 0].astype(int) * 256 + images.items[:, 0, 0, 1]).tolist())


def test_fractions_are_nested_balanced_and_keep_their_labels(images):
    before = set()
    for fraction in (0.05, 0.1, 0.25, 0.5, 1.0):
        subset = label_subset(images, 3, fraction=fraction)
        counts = np.bincount(subset.labels)
        np.testing.assert_array_equal(counts, np.round(fraction * np.arange(20, 90, 10)))
        np.testing.assert_array_equal(subset.items[:, 0, 0, 2], subset.labels)
        assert before < numbers(subset)
        before = numbers(subset)
    assert before == numbers(images)


def test_numbers_per_class(images):
    few, more = (label_subset(images, 3, per_class=count) for count in (2, 20))
    assert np.bincount(few.labels).tolist() == [2] * 7
    assert numbers(few) < numbers(more)
    assert numbers(few) < numbers(label_subset(images, 3, fraction=0.5))
    assert numbers(few) != numbers(label_subset(images, 4, per_class=2))
    assert numbers(few) == numbers(label_subset(images, 3, per_class=2))


def test_subsets_of_a_source_keep_clear_of_its_test_images():
    source = load_source("digits")
    subset = label_subset(source.train, 0, fraction=0.5)
    train, test = ({image.tobytes() for image in x.items} for x in (subset, source.test))
    assert not train & test


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 0.01}, "Class a has 20 images, and 1.00% of them would take 0"),
        ({"per_class": 25}, "Class a has 20 images, and 25 a class would take 25"),
        ({"fraction": 1.5}, r"must lie in \(0, 1\], received 1.5"),
        ({}, "either a fraction of the labels or a number"),
        ({"fraction": 0.5, "per_class": 3}, "either a fraction of the labels or a number"),
    ],
    ids=str,
)
def test_subsets_that_cannot_be(images, settings, message):
    with pytest.raises(ValueError, match=message):
        label_subset(images, 0, **settings)


def test_fractions_that_leave_a_class_empty_are_told(capsys):
    images = ImageSet(np.zeros((60, 1, 1, 3), np.uint8), np.arange(60) % 2, ("a", "b"))
    assert possible_fractions(images, (0.01, 0.1, 1.0)) == (0.1, 1.0)
    assert "no image left at 0.01 of the labels: left out" in capsys.readouterr().out


def of_sizes(*sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return ImageSet(pixels.repeat(3, axis=-1), labels, tuple("abcdefg"[: len(sizes)]))


def test_one_small_class_gives_one_image_and_changes_nothing_for_the_others(capsys):
    images = of_sizes(40, 20, 1, 0)
    subset = label_subset(images, 0, fraction=0.1)
    assert np.bincount(subset.labels, minlength=4).tolist() == [4, 2, 1, 0]
    assert "c: too small for 10.00% of its images, so one is taken" in capsys.readouterr().out
    assert possible_fractions(images, (0.01, 0.1, 1.0)) == (0.1, 1.0)


def test_more_images_of_a_class_than_it_has_are_refused_by_its_name():
    with pytest.raises(ValueError, match="Class c has 1 images, and 2 a class would take 2"):
        label_subset(of_sizes(40, 20, 1, 0), 0, per_class=2)
    few = label_subset(of_sizes(40, 20, 1, 0), 0, per_class=1)
    assert np.bincount(few.labels, minlength=4).tolist() == [1, 1, 1, 0]
