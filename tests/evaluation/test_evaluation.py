import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from reference import knn_by_hand
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from sit_keras.config.network import SiTConfig
from sit_keras.config.presets import recipe
from sit_keras.data.sources import load_source
from sit_keras.data.views import TwoViews
from sit_keras.evaluation import diagnostics, protocols
from sit_keras.evaluation.baselines import judge, verdict_table
from sit_keras.evaluation.features import (
    FrozenFeatures,
    head_features,
    pixel_features,
    select_features,
)
from sit_keras.evaluation.knn import knn_accuracy
from sit_keras.evaluation.linear import fit_heads
from sit_keras.models.backbone import build_encoder
from sit_keras.models.classifier import build_classifier
from sit_keras.runs.folder import write_settings
from sit_keras.workflows.evaluate import evaluate

CONFIG = SiTConfig(8, 4, 16, 2, 2, 24, drop_path_rate=0.5)


def clusters(random, count=120, classes=4):
    labels = np.arange(count) % classes
    centres = 3 * random.normal(size=(classes, 10))
    features = centres[labels] + random.normal(size=(count, 10)) * 2.5
    return features.astype("float32"), labels


@pytest.mark.parametrize("block", [7, 1000])
def test_knn_against_a_slow_one(random, block):
    """Exactly, for every k at once; and scikit-learn agrees."""
    features, labels = clusters(random)
    train, test = slice(0, 80), slice(80, None)
    ks = (1, 5, 79, 80)
    data = features[train], labels[train], features[test], labels[test]
    accuracies = knn_accuracy(*data, ks, block=block)
    assert accuracies == {k: knn_by_hand(*data, k) for k in ks}
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    reference = KNeighborsClassifier(
        n_neighbors=5, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(unit[train], labels[train])
    assert accuracies[5] == pytest.approx(reference.score(unit[test], labels[test]))
    assert 0.4 < accuracies[5] < 1


@pytest.mark.parametrize("ks", [(0,), (5, 81), ()])
def test_numbers_of_neighbours_that_cannot_be(random, ks):
    features, labels = clusters(random, 80)
    with pytest.raises(ValueError, match="between 1 and the 80 training images"):
        knn_accuracy(features, labels, features, labels, ks)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_linear_head_is_scikit_learns(random, classes):
    """With the penalty it chose, and folded into one kernel on the plain features."""
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


def test_logits_of_two_heads_are_averaged(random):
    first, labels = clusters(random, 200)
    second = random.normal(size=first.shape).astype("float32")
    both = fit_heads({"a": first, "b": second}, labels)
    single = [dataclasses.replace(both, layers={name: both.layers[name]}) for name in ("a", "b")]
    features = {"a": first, "b": second}
    expected = sum(heads.logits(features) for heads in single) / 2
    np.testing.assert_allclose(both.logits(features), expected, rtol=1e-5)


def test_noise_cannot_be_read(random):
    labels = clusters(random, 400)[1]
    noise = {"x": random.normal(size=(400, 10)).astype("float32")}
    part = {"x": noise["x"][:200]}
    rest = {"x": noise["x"][200:]}
    assert fit_heads(part, labels[:200]).accuracy(rest, labels[200:]) < 0.45


def test_a_class_without_an_image_is_refused(random):
    features, labels = clusters(random)
    kept = labels != 2
    with pytest.raises(ValueError, match=r"received \[30 30  0 30\] images of the classes"):
        fit_heads({"x": features[kept]}, labels[kept])


def test_diagnostics_by_hand(random):
    same = np.tile(random.normal(size=16), (50, 1))
    assert diagnostics.spread(same) == pytest.approx(0, abs=1e-6)
    assert diagnostics.uniformity(same) == pytest.approx(0, abs=1e-6)
    even = random.normal(size=(2000, 64))
    assert diagnostics.spread(even) == pytest.approx(1, abs=0.02)
    assert diagnostics.uniformity(even) == pytest.approx(-4 + 2 * 4 / 64, abs=0.05)
    # Three dimensions with equal variance, and one for each of them.
    cross = np.concatenate([np.eye(3, 10), -np.eye(3, 10)])
    assert diagnostics.effective_rank(cross) == pytest.approx(3)
    assert diagnostics.effective_rank(np.outer(np.arange(5.0), np.ones(4))) == pytest.approx(1)
    assert diagnostics.alignment(even, 3 * even) == pytest.approx(0)
    assert diagnostics.alignment(even, -even) == pytest.approx(4)
    opposite = np.array([[1.0, 0], [-1, 0]])
    assert diagnostics.uniformity(opposite) == pytest.approx(-8)


def test_features_are_the_encoders_in_the_images_order():
    encoder = build_encoder(CONFIG)
    images = load_source("digits").test
    features = FrozenFeatures(encoder).of(images, 1.0)
    pixels = pixel_features(images, 8, 1.0).reshape(-1, 8, 8, 3)
    outputs = encoder(pixels, training=False)
    for name, value in features.items():
        expected = outputs[name] if name != "patches" else np.mean(outputs[name], axis=1)
        np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=name)
    both = select_features(features, "tokens")
    assert both.shape == (360, 32)
    np.testing.assert_array_equal(both[:, :16], select_features(features, "rotation"))
    np.testing.assert_array_equal(both[:, 16:], select_features(features, "contrastive"))
    with pytest.raises(ValueError, match="Unknown features 'cls': choose one of tokens"):
        select_features(features, "cls")


def test_the_classifier_is_the_encoder_and_its_heads(tmp_path):
    """The saved model says what the probe said; the encoder is as it was, bit for bit."""
    source = load_source("digits")
    encoder = build_encoder(CONFIG)
    before = encoder.get_weights()
    frozen = protocols.Frozen(encoder, source.train.subset(150, 0), source.test, 1.0)
    results = protocols.linear(frozen, tmp_path)
    assert all((a == b).all() for a, b in zip(before, encoder.get_weights(), strict=True))
    again = FrozenFeatures(encoder).of(frozen.train, 1.0)
    for name, value in again.items():
        np.testing.assert_array_equal(value, frozen.train_features[name])
    model = keras.saving.load_model(tmp_path / "classifier.keras")
    pixels = pixel_features(frozen.test, 8, 1.0).reshape(-1, 8, 8, 3)
    heads = fit_heads(head_features(frozen.train_features), frozen.train.class_labels())
    logits = heads.logits(head_features(frozen.test_features))
    np.testing.assert_allclose(model(pixels), logits, atol=1e-3)
    confusion = np.array(results["confusion"])
    assert np.trace(confusion) / 360 == pytest.approx(results["accuracy"])
    assert results["accuracy"] == heads.accuracy(
        head_features(frozen.test_features), frozen.test.class_labels()
    )
    assert results["per_class"]["3"] == confusion[3, 3] / confusion[3].sum()
    assert Image.open(tmp_path / "confusion.png").width > 300


def test_test_labels_have_no_say(tmp_path, random):
    source = load_source("digits")
    encoder = build_encoder(CONFIG)
    shuffled = dataclasses.replace(source.test, labels=random.permutation(source.test.labels))
    models = []
    for name, test in (("right", source.test), ("shuffled", shuffled)):
        frozen = protocols.Frozen(encoder, source.train.subset(150, 0), test, 1.0)
        protocols.linear(frozen, tmp_path / name)
        models.append(keras.saving.load_model(tmp_path / name / "classifier.keras"))
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_classifier_with_another_hidden_layer(tmp_path, random):
    model = build_classifier(build_encoder(CONFIG), 7, hidden_dim=5)
    images = random.normal(size=(3, 8, 8, 3)).astype("float32")
    head = model.get_layer("classifier")
    tokens = model.get_layer("sit_encoder")(images)
    logits = np.asarray(head(tokens, averaged=False))
    assert logits.shape == (3, 2, 7)
    np.testing.assert_allclose(model(images), logits.mean(axis=1), rtol=1e-6)
    assert sum(np.prod(w.shape) for w in head.weights) == 2 * (16 * 5 + 5 + 5 * 7 + 7)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_health_draws_a_map(tmp_path):
    source = load_source("digits")
    test = source.test.subset(60, 0)
    frozen = protocols.Frozen(build_encoder(CONFIG), source.train, test, 1.0)
    results = protocols.health(frozen, TwoViews(8), tmp_path, "patches")
    assert results["images"] == 60 and 0 < results["spread"] < 1.2
    assert 1 < results["effective_rank"] <= 16
    features = FrozenFeatures(frozen.encoder)
    views = TwoViews(8)(test.items, 0)["clean"]
    two = [features([views[:, i]])["patches"] for i in (0, 1)]
    assert results["alignment"] == pytest.approx(diagnostics.alignment(*two), rel=1e-4)
    assert Image.open(tmp_path / "map.png").width > 300


def test_evaluate_writes_its_folder(tmp_path, capsys):
    """A run of one size judged on images of another, and found by its folder alone."""
    encoder = build_encoder(CONFIG)
    encoder.save(tmp_path / "encoder.keras")
    write_settings(tmp_path, recipe("digits"))
    results = evaluate(tmp_path, chosen=("linear", "knn"), image_size=12, ks=(5, 10_000))
    assert results == json.loads((tmp_path / "evaluation/digits-12px/results.json").read_text())
    assert (results["dataset"], results["image_size"]) == ("digits", 12)
    assert set(results["knn"]) == {"features", "5"} and results["linear"]["accuracy"] > 0.5
    few = evaluate(tmp_path, chosen=("linear",), per_class=3)
    assert few["train_images"] == 30 and few["linear"]["accuracy"] > 0.3
    assert (tmp_path / "evaluation" / "digits-30-labels" / "classifier.keras").exists()
    out = capsys.readouterr().out
    assert f"{results['linear']['accuracy']:.2%}" in out and str(tmp_path / "evaluation") in out


def test_what_cannot_be_evaluated_is_explained(tmp_path, random):
    encoder = build_encoder(CONFIG)
    encoder.save(tmp_path / "some.keras")
    with pytest.raises(ValueError, match="give a dataset"):
        evaluate(tmp_path / "some.keras")
    with pytest.raises(ValueError, match="Unknown protocol 'zero-shot'"):
        evaluate(tmp_path / "some.keras", "digits", chosen=("zero-shot",))
    with pytest.raises(ValueError, match="not divisible by patch_size 4"):
        evaluate(tmp_path / "some.keras", "digits", image_size=10)
    with pytest.raises(ValueError, match="No encoder at"):
        evaluate(tmp_path / "nothing", "digits")
    (tmp_path / "images").mkdir()
    Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
        tmp_path / "images" / "one.png"
    )
    with pytest.raises(ValueError, match="has no labels to judge by"):
        evaluate(tmp_path / "some.keras", f"folder:{tmp_path / 'images'}")
    digits = load_source("digits")
    other = dataclasses.replace(digits.test, class_names=("a", "b"))
    with pytest.raises(ValueError, match="are not those to test on"):
        protocols.Frozen(encoder, digits.train, other, 1.0)


@pytest.mark.slow
def test_the_command(tmp_path):
    def call(*arguments):
        command = [sys.executable, ROOT / "evaluate.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    build_encoder(CONFIG).save(tmp_path / "some.keras")
    result = call("--run=some.keras", "--dataset=digits", "--k=3", "--features=contrastive")
    assert result.returncode == 0, result.stderr
    assert "3 neighbours" in result.stdout and "evaluation/digits" in result.stdout
    for name in ("results.json", "classifier.keras", "confusion.png", "map.png"):
        assert (tmp_path / "evaluation" / "digits" / name).exists()
    bad = call("--run=some.keras", "--dataset=digits", "--k=some")
    assert bad.returncode == 1 and "evaluate.py: --k takes whole numbers" in bad.stderr
    assert "Traceback" not in bad.stderr
    lost = call("--table=linear", "--fraction=0.1", "--seed=3")
    assert "--fraction, --seed would do nothing for a table: leave it out." in lost.stderr


def test_verdict():
    source = load_source("digits")
    results = judge(build_encoder(CONFIG), source.train.subset(300, 0), source.test, 1.0, seed=0)
    assert results["linear_accuracy"]["pixels"] > 0.9
    table = verdict_table({"probe_test_split": "test", **results})
    assert "360 test images (chance 10.0%)" in table
    assert f"{results['linear_accuracy']['pixels']:.1%}" in table
