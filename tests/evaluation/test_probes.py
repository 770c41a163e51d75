"""Nearest neighbours, linear heads and diagnostics of features, against slow or known numbers."""

import dataclasses

import numpy as np
import pytest
from reference import knn_by_hand
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from sit_keras.data.sources import load_source
from sit_keras.evaluation import diagnostics
from sit_keras.evaluation.feature_plane import feature_plane
from sit_keras.evaluation.knn import knn_predictions
from sit_keras.evaluation.linear import STRENGTHS, TokenHeads, fit_heads


def clusters(random, count=120, classes=4):
    labels = np.arange(count) % classes
    centres = 3 * random.normal(size=(classes, 10))
    features = centres[labels] + random.normal(size=(count, 10)) * 2.5
    return features.astype("float32"), labels


@pytest.mark.parametrize("block", [7, 1000])
def test_knn_equals_a_slow_one_and_scikit_learns(random, block):
    """Exactly, for all k in one call, whatever number of test images is compared at a time."""
    features, labels = clusters(random)
    train, test = slice(0, 80), slice(80, None)
    ks = (1, 5, 79, 80)
    data = features[train], labels[train], features[test], labels[test]
    predictions = knn_predictions(*data[:3], ks, block=block)
    accuracies = {k: np.mean(predicted == labels[test]) for k, predicted in predictions.items()}
    assert accuracies == {k: knn_by_hand(*data, k) for k in ks}
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    reference = KNeighborsClassifier(
        n_neighbors=5, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(unit[train], labels[train])
    assert accuracies[5] == pytest.approx(reference.score(unit[test], labels[test]))
    assert 0.4 < accuracies[5] < 1


@pytest.mark.parametrize("block", [1, 3, None])
def test_of_equally_near_training_images_the_first_ones_vote(random, block):
    """Copies of one image with other labels: with k = 2 the first two of them decide."""
    near, far = np.ones((1, 6), "float32"), -np.ones((1, 6), "float32")
    train = np.concatenate([far, near, near, near, near, near, far])
    labels = np.array([4, 2, 2, 0, 0, 0, 4])
    test = near + 0.1 * random.random((5, 6), dtype="float32")
    predicted = knn_predictions(train, labels, test, (1, 2, 5), block=block)
    assert {k: set(found) for k, found in predicted.items()} == {1: {2}, 2: {2}, 5: {0}}


def test_two_heads_are_each_fitted_to_their_own_features(random):
    """Side by side, they are the same as one after the other."""
    first, labels = clusters(random)
    second = random.normal(size=(len(labels), 3)).astype("float32")
    both = fit_heads({"a": first, "b": second}, labels)
    for name, x in (("a", first), ("b", second)):
        scaler = StandardScaler().fit(x)
        model = LogisticRegression(C=both.strength, max_iter=200)
        expected = model.fit(scaler.transform(x), labels).decision_function(scaler.transform(x))
        head = dataclasses.replace(both, layers={name: both.layers[name]})
        np.testing.assert_allclose(head.logits({name: x}), expected, atol=1e-3)


@pytest.mark.parametrize("ks", [(0,), (5, 81), ()])
def test_impossible_numbers_of_neighbours_are_refused(random, ks):
    features, labels = clusters(random, 80)
    with pytest.raises(ValueError, match="between 1 and the 80 training images"):
        knn_predictions(features, labels, features, ks)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_linear_head_equals_scikit_learns(random, classes):
    """With the penalty that was chosen, and with the scaling folded into the kernel."""
    features, labels = clusters(random, 400, classes)
    heads = fit_heads({"x": features[:200]}, labels[:200])
    scaler = StandardScaler().fit(features[:200])
    reference = LogisticRegression(C=heads.strength, max_iter=1000)
    reference.fit(scaler.transform(features[:200]), labels[:200])
    unseen = scaler.transform(features[200:])
    assert heads.logits({"x": features[200:]}).shape == (200, classes)
    accuracy = heads.accuracy({"x": features[200:]}, labels[200:])
    assert accuracy == pytest.approx(reference.score(unseen, labels[200:]), abs=0.005)
    assert accuracy > 0.8
    logits = heads.logits({"x": features[200:]})
    differences = logits[:, 1:] - logits[:, :1]
    theirs = reference.decision_function(unseen).reshape(200, -1)
    theirs = theirs if classes == 2 else theirs[:, 1:] - theirs[:, :1]
    np.testing.assert_allclose(differences, theirs, atol=0.05)


def test_the_logits_of_two_heads_are_averaged(random):
    first, labels = clusters(random, 200)
    second = random.normal(size=first.shape).astype("float32")
    both = fit_heads({"a": first, "b": second}, labels)
    single = [dataclasses.replace(both, layers={name: both.layers[name]}) for name in ("a", "b")]
    features = {"a": first, "b": second}
    expected = sum(heads.logits(features) for heads in single) / 2
    np.testing.assert_allclose(both.logits(features), expected, rtol=1e-5)


def test_a_linear_head_on_noise_is_no_better_than_chance(random):
    labels = clusters(random, 400)[1]
    noise = {"x": random.normal(size=(400, 10)).astype("float32")}
    part = {"x": noise["x"][:200]}
    rest = {"x": noise["x"][200:]}
    assert fit_heads(part, labels[:200]).accuracy(rest, labels[200:]) < 0.45


def test_a_class_without_an_image_is_never_predicted(random):
    features, labels = clusters(random)
    kept = labels < 2
    heads = fit_heads({"x": features[kept]}, labels[kept], num_classes=4)
    assert heads.logits({"x": features}).shape == (120, 4)
    assert set(heads.predict({"x": features})) == {0, 1}
    two = fit_heads({"x": features[kept]}, labels[kept])
    np.testing.assert_array_equal(heads.predict({"x": features}), two.predict({"x": features}))
    gap = fit_heads({"x": features[labels != 2]}, labels[labels != 2], hidden_dim=3)
    assert gap.logits({"x": features}).shape == (120, 4)
    assert 2 not in gap.predict({"x": features})


def test_images_of_a_single_class_are_refused(random):
    features, labels = clusters(random)
    with pytest.raises(ValueError, match=r"at least two classes .* received \[ 0 30\] images"):
        fit_heads({"x": features[labels == 1]}, labels[labels == 1])


def test_a_class_of_one_image_leaves_the_choice_of_the_penalty_to_the_others(random, monkeypatch):
    """Its image is learned from, and the fifth that is held out has all other classes."""
    held_out = []
    accuracy = TokenHeads.accuracy

    def watched(heads, features, labels):
        held_out.append(np.bincount(labels).tolist())
        return accuracy(heads, features, labels)

    monkeypatch.setattr(TokenHeads, "accuracy", watched)
    features, labels = clusters(random)
    rare = np.append(labels, 4), np.concatenate([features, -20 * np.ones((1, 10), "float32")])
    for seed in range(5):
        heads = fit_heads({"x": rare[1]}, rare[0], seed)
        assert heads.predict({"x": rare[1]})[-1] == 4
    assert held_out and set(map(tuple, held_out)) <= {(6, 6, 6, 6)}


def test_heads_are_fitted_to_one_image_of_each_class(random):
    features, labels = clusters(random)
    heads = fit_heads({"x": features[:4]}, labels[:4])
    assert set(heads.predict({"x": features[:4]})) == {0, 1, 2, 3}
    assert heads.strength == STRENGTHS[0]  # nothing could be held out to choose it


def test_the_accuracies_of_the_digits_are_those_of_before():
    """Linear and nearest neighbours on raw pixels, to the last digit."""
    source = load_source("digits")
    pixels = [
        (images.items[..., 0].reshape(len(images), -1) / 255).astype("float32")
        for images in (source.train, source.test)
    ]
    heads = fit_heads({"x": pixels[0]}, source.train.labels, 0)
    assert heads.accuracy({"x": pixels[1]}, source.test.labels) == 0.9583333333333334
    predictions = knn_predictions(pixels[0], source.train.labels, pixels[1], (1, 5, 20))
    accuracies = [float(np.mean(x == source.test.labels)) for x in predictions.values()]
    assert accuracies == [0.9805555555555555, 0.9861111111111112, 0.975]


def test_diagnostics_of_known_distributions_have_known_values(random):
    same = np.tile(random.normal(size=16), (50, 1))
    assert diagnostics.spread(same) == pytest.approx(0, abs=1e-6)
    assert diagnostics.uniformity(same) == pytest.approx(0, abs=1e-6)
    even = random.normal(size=(2000, 64))
    assert diagnostics.spread(even) == pytest.approx(1, abs=0.02)
    assert diagnostics.uniformity(even) == pytest.approx(-4 + 2 * 4 / 64, abs=0.05)
    # Three dimensions of equal variance.
    cross = np.concatenate([np.eye(3, 10), -np.eye(3, 10)])
    assert diagnostics.effective_rank(cross) == pytest.approx(3)
    assert diagnostics.effective_rank(np.outer(np.arange(5.0), np.ones(4))) == pytest.approx(1)
    assert diagnostics.alignment(even, 3 * even) == pytest.approx(0)
    assert diagnostics.alignment(even, -even) == pytest.approx(4)
    for measure in (diagnostics.spread, diagnostics.uniformity):
        assert measure(even[:1]) == 0  # of a single image
    assert diagnostics.effective_rank(even[:1]) == 1
    opposite = np.array([[1.0, 0], [-1, 0]])
    assert diagnostics.uniformity(opposite) == pytest.approx(-8)


def test_the_plane_keeps_clusters_apart_and_takes_features_that_collapsed(random):
    labels = np.arange(60) % 2
    features = (10 * labels[:, None] + random.normal(size=(60, 5))).astype("float32")
    plane = feature_plane(features)
    distances = np.linalg.norm(plane[:, None] - plane, axis=-1) + 1e9 * np.eye(60)
    assert plane.shape == (60, 2)
    np.testing.assert_array_equal(labels[distances.argmin(axis=1)], labels)
    np.testing.assert_array_equal(feature_plane(np.ones((30, 4))), np.zeros((30, 2)))
    np.testing.assert_array_equal(feature_plane(features[:3]), np.zeros((3, 2)))
