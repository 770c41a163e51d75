import zlib

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from sit_keras.data.images import ImageSet
from sit_keras.data.sources import load_source
from sit_keras.data.splits import hold_out, label_subset, possible_fractions


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


def test_unlabelled_images_are_no_classes():
    images = ImageSet(np.array(["a", "b", "c"]), np.array([0, -1, 1]), ("x", "y"))
    with pytest.raises(ValueError, match=r"1 of 3 images have no label \(-1\)"):
        images.class_labels()
    assert images.labelled().class_labels().tolist() == [0, 1]


# --- Held-out images ------------------------------------------------------------------------------


def labelled(counts, unlabelled=0):
    """As many images of each class as `counts` says, each its own name."""
    labels = np.repeat([*range(len(counts)), -1], [*counts, unlabelled])
    names = np.array([f"{i:04d}" for i in range(len(labels))])
    return ImageSet(names, labels, tuple(map(str, range(len(counts)))))


def test_hold_out_is_stratified_and_disjoint():
    images = labelled((40, 40, 20), unlabelled=100)
    kept, held = hold_out(images, 0.1, seed=1)
    assert sorted([*kept.items, *held.items]) == sorted(images.items)
    assert np.bincount(held.labels).tolist() == [4, 4, 2]
    again = hold_out(images, 0.1, seed=1)[1]
    np.testing.assert_array_equal(held.items, again.items)
    assert (held.items != hold_out(images, 0.1, seed=2)[1].items).any()
    assert len(hold_out(images, 0.0, seed=1)[1]) == 0


def test_hold_out_of_unlabelled_images():
    kept, held = hold_out(labelled((), unlabelled=20), 0.25, seed=0)
    assert (len(kept), len(held)) == (15, 5)


@pytest.mark.parametrize(
    ("counts", "unlabelled", "share", "message"),
    [
        ((2, 1), 97, 0.9, "holdout=0.9 of 3 labelled images .* lower --holdout, or label more"),
        ((1, 1), 0, 0.75, "holdout=0.75 of 2 labelled images .* lower --holdout, or label more"),
        ((1,), 9, 0.51, "holdout=0.51 of 1 labelled image holds out all of them"),
        ((), 20, 0.99, "holdout=0.99 of 20 images .* lower --holdout, or use more images"),
    ],
)
def test_a_share_that_would_hold_out_all_images_is_refused_by_its_flag(
    counts, unlabelled, share, message
):
    with pytest.raises(ValueError, match=message):
        hold_out(labelled(counts, unlabelled), share, seed=0)


@pytest.mark.parametrize("count", [2, 3, 20])
@pytest.mark.parametrize("unlabelled", [0, 9])
def test_all_labelled_images_but_one_can_be_held_out(count, unlabelled):
    kept, held = hold_out(labelled((count,), unlabelled), (count - 1) / count, seed=0)
    assert (len(kept), len(held)) == (1 + unlabelled, count - 1)


def test_of_no_image_none_is_held_out():
    assert [len(part) for part in hold_out(labelled(()), 0.5, seed=0)] == [0, 0]


@pytest.mark.parametrize("counts", [(40, 40, 8, 1), (40, 1, 40, 1, 8), (2, 30, 1)])
@pytest.mark.parametrize("share", [0.1, 0.2])
def test_a_class_of_one_image_stays_in_training_and_the_others_are_stratified(counts, share):
    images = labelled(counts)
    for seed in range(30):
        kept, held = hold_out(images, share, seed)
        assert len(held) == round(share * sum(counts))
        assert set(kept.labels) == set(range(len(counts)))
        shared = np.where(np.array(counts) > 1, counts, 0)
        fair = len(held) * shared / shared.sum()
        assert (abs(np.bincount(held.labels, minlength=len(counts)) - fair) < 1).all()
        assert not (np.bincount(held.labels, minlength=len(counts))[shared == 0]).any()


def test_images_that_are_all_of_their_own_class_are_held_out_nevertheless():
    kept, held = hold_out(labelled((1,) * 20), 0.25, seed=0)
    assert (len(kept), len(held)) == (15, 5)
    assert held.labels.tolist() != list(range(15, 20))


def test_fewer_held_out_images_than_classes_are_shuffled():
    images = labelled((10,) * 8)
    drawn = {tuple(hold_out(images, 0.05, seed)[1].labels) for seed in range(20)}
    assert len(drawn) > 10 and all(len(labels) == 4 for labels in drawn)
    assert set().union(*drawn) == set(range(8))


@pytest.mark.parametrize(
    ("counts", "unlabelled", "share", "is_stratified"),
    [((30, 9, 2), 0, 0.2, True), ((30, 9, 2), 25, 0.2, True), ((10,) * 8, 0, 0.05, False)],
)
def test_without_rare_classes_the_split_is_that_of_scikit_learn(
    counts, unlabelled, share, is_stratified
):
    images = labelled(counts, unlabelled)
    candidates = np.arange(sum(counts))
    labels = images.labels[candidates]
    for seed in range(5):
        expected = train_test_split(
            candidates,
            test_size=round(share * len(candidates)),
            stratify=labels if is_stratified else None,
            random_state=seed,
        )[1]
        held = hold_out(images, share, seed)[1]
        assert held.items.tolist() == images.items[np.sort(expected)].tolist()


def test_the_split_of_the_digits_is_that_of_the_published_figures():
    kept, held = hold_out(load_source("digits").train, 0.05, seed=0)
    assert (len(kept), len(held)) == (1365, 72)
    assert zlib.crc32(held.items.tobytes()) == 0x2A7DF7EF


# --- Small classes --------------------------------------------------------------------------------


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
