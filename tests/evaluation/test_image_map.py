"""What the map of images says about each: neighbours, votes and groups; colours of patches."""

import numpy as np
import pytest

from sit_keras.evaluation.image_map import image_map
from sit_keras.evaluation.patch_colours import patch_colours


def two_groups(random, count=12):
    groups = np.arange(count) % 2
    near = random.normal(size=(count, 4), scale=0.1)
    return (near + 5 * np.eye(4)[groups]).astype("float32"), groups


def test_neighbours_are_of_the_same_group_and_never_the_image_itself(random):
    features, groups = two_groups(random)
    found = image_map(features, groups)
    assert found.neighbours.shape == found.cosines.shape == (12, 10)
    np.testing.assert_array_equal(groups[found.neighbours[:, :5]], groups[:, None].repeat(5, 1))
    assert (found.neighbours != np.arange(12)[:, None]).all()
    assert (np.diff(found.cosines) <= 0).all()
    assert found.cosines[:, 4].min() > 0.9 and found.cosines[:, 5].max() < 0


def test_labels_that_are_missing_do_not_vote(random):
    features, groups = two_groups(random)
    labels = np.where(groups == 0, -1, 7)
    assert (image_map(features, labels).votes == 7).all()
    assert (image_map(features, np.full(12, -1)).votes == -1).all()


def test_there_are_as_many_groups_as_classes(random):
    features, groups = two_groups(random)
    found = image_map(features, groups).groups
    assert len(set(found[groups == 0])) == len(set(found[groups == 1])) == 1
    assert found[0] != found[1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_images_or_equal_ones_have_a_map(count):
    found = image_map(np.ones((count, 4), "float32"), np.zeros(count, int))
    assert found.plane.shape == (count, 2) and set(found.groups) == {0}


def test_patches_have_colours_by_their_principal_components():
    tokens = np.zeros((2, 5, 4), "float32")
    tokens[..., 2] = np.arange(10).reshape(2, 5)  # they differ in one direction
    colours = patch_colours(tokens)
    red = np.sort(colours[..., 0].ravel())
    np.testing.assert_allclose(red, np.clip((np.arange(10) - 0.09) / 8.82, 0, 1), atol=1e-5)
    assert (colours[..., 1:] == 0.5).all()


def test_equal_patches_are_grey():
    assert (patch_colours(np.ones((2, 4, 8), "float32")) == 0.5).all()
    assert patch_colours(np.ones((1, 1, 8), "float32")).shape == (1, 1, 3)
