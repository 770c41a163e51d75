import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from sit_keras import SiTConfig, build_encoder
from sit_keras.data import load_source
from sit_keras.evaluation import (
    encoder_features,
    judge,
    knn_accuracy,
    linear_accuracy,
    pixel_features,
    verdict_table,
)


def clusters(random, count=120, classes=4):
    labels = np.arange(count) % classes
    centres = 3 * random.normal(size=(classes, 10))
    features = centres[labels] + random.normal(size=(count, 10)) * 2.5
    return features.astype("float32"), labels


@pytest.mark.parametrize(("k", "block"), [(1, 7), (5, 1000), (200, 16)])
def test_knn_against_scikit_learn(random, k, block):
    features, labels = clusters(random)
    train, test = slice(0, 80), slice(80, None)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    reference = KNeighborsClassifier(
        n_neighbors=min(k, 80), metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(unit[train], labels[train])
    expected = reference.score(unit[test], labels[test])
    accuracy = knn_accuracy(
        features[train], labels[train], features[test], labels[test], k=k, block=block
    )
    assert accuracy == pytest.approx(expected)
    assert 0.4 < accuracy < 1


def test_linear_probe(random):
    features, labels = clusters(random, 400)
    assert linear_accuracy(features[:200], labels[:200], features[200:], labels[200:]) > 0.8
    noise = random.normal(size=features.shape)
    assert linear_accuracy(noise[:200], labels[:200], noise[200:], labels[200:]) < 0.45


def test_features_are_both_tokens_in_the_images_order():
    source = load_source("digits")
    encoder = build_encoder(SiTConfig(8, 4, 16, 2, 2, 24, drop_path_rate=0.5))
    images = source.test
    features = encoder_features(encoder, images, 1.0)
    assert features.shape == (360, 32)
    pixels = pixel_features(images, 8, 1.0).reshape(-1, 8, 8, 3)
    outputs = encoder(pixels, training=False)
    both = np.concatenate([outputs["rotation"], outputs["contrastive"]], axis=1)
    np.testing.assert_allclose(features, both, atol=1e-5)


def test_verdict():
    source = load_source("digits")
    encoder = build_encoder(SiTConfig(8, 4, 16, 2, 2, 24))
    results = judge(encoder, source.train.subset(300, 0), source.test, 1.0, seed=0)
    assert results["linear_accuracy"]["pixels"] > 0.9
    table = verdict_table({"probe_test_split": "test", **results})
    assert "360 test images (chance 10.0%)" in table
    assert f"{results['linear_accuracy']['pixels']:.1%}" in table
