"""Rotation taught on extra, turned views, and the weighting as a layer: the steps they take."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.checks import TASKS
from sit_keras.config.settings import CorruptionConfig, ViewConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.weighting import UncertaintyWeighting
from sit_keras.training.micro_batches import losses_in_parts, smallest_parts
from sit_keras.training.pretrainer import SiTPretrainer

NETWORK = dict(
    image_shape=(12, 12, 3), patch_size=4, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=24,
    drop_path_rate=0.0,
)  # fmt: skip
EVERY_FOURTH = ViewConfig(turned_every=4)


def pixels(random, count=16):
    return random.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)


def compiled(views=EVERY_FOURTH, **settings):
    model = SiTPretrainer(SiTBackbone(**NETWORK), projection_dim=8, views=views, **settings)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    return model


def test_the_turned_views_are_the_upright_ones_of_every_fourth_image_turned(random):
    images = pixels(random, 10)
    views = TwoViews(12, EVERY_FOURTH, seed=3)(images, step=5)
    papers = TwoViews(12, seed=3)(images, step=5)
    assert views["turned"].shape == (3, 2, 12, 12, 3)  # of the images 0, 4 and 8
    for i in range(10):
        for view in range(2):
            # The same random numbers as without the option: the paper's view, turned back.
            turns = int(papers["rotation"][i, view])
            upright = np.rot90(papers["clean"][i, view], turns)
            np.testing.assert_array_equal(views["clean"][i, view], upright)
            if i % 4 == 0:
                assert int(views["turned_rotation"][i // 4, view]) == turns
                np.testing.assert_array_equal(
                    views["turned"][i // 4, view], papers["clean"][i, view]
                )
    np.testing.assert_array_equal(views["rotation"], np.zeros((10, 2)))
    assert len(np.unique(views["turned_rotation"])) > 1
    assert (views["corrupted"].numpy() != views["clean"].numpy()).any()


@pytest.mark.parametrize("every", [1, 2, 4])
def test_two_halves_of_a_batch_turn_the_same_views_as_the_whole(random, every):
    two_views, images = TwoViews(12, ViewConfig(turned_every=every)), pixels(random)
    whole = two_views(images, 7)
    halves = [two_views(images[first : first + 8], 7, first) for first in (0, 8)]
    for name, value in whole.items():
        np.testing.assert_array_equal(
            np.concatenate([half[name] for half in halves]), value, err_msg=name
        )
    assert len(whole["turned"]) == 16 // every


def cross_entropy(logits, label):
    shifted = [float(logit) - float(max(logits)) for logit in logits]
    return np.log(sum(np.exp(each) for each in shifted)) - shifted[label]


def test_rotation_is_taught_on_the_turned_views_and_the_other_tasks_on_the_upright_ones(random):
    model = compiled()
    views = model.make_views(pixels(random), tf.constant(0, tf.int64))
    losses, accuracies = model.objective.losses(views)
    logits, labels, hits = [], [], 0
    for turned, rotation in zip(views["turned"], views["turned_rotation"], strict=True):
        for view in range(2):
            outputs = model.network(turned[view][None])["rotation_logits"][0].numpy()
            logits.append(outputs)
            labels.append(int(rotation[view]))
            hits += int(np.argmax(outputs)) == labels[-1]
    entropies = [cross_entropy(each, label) for each, label in zip(logits, labels, strict=True)]
    assert float(losses["rotation"]) == pytest.approx(np.mean(entropies), rel=1e-5)
    assert float(accuracies["rotation_accuracy"]) == pytest.approx(hits / 8)
    names = "corrupted", "clean", "rotation"
    others, _ = model.objective.losses({name: views[name] for name in names})
    for task in ("reconstruction", "contrastive"):
        assert float(losses[task]) == pytest.approx(float(others[task]), rel=1e-6), task
    assert float(losses["rotation"]) != pytest.approx(float(others["rotation"]), rel=1e-3)


def test_without_the_rotation_task_nothing_extra_goes_through_the_network(random):
    model = compiled(tasks=("reconstruction", "contrastive"))
    views = model.make_views(pixels(random), tf.constant(0, tf.int64))
    assert len(model.objective.separate(views, training=False)[0]["rotation_logits"]) == 32
    model = compiled()
    assert len(model.objective.separate(views, training=False)[0]["rotation_logits"]) == 32


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"min_weight": 0.6, "loss_floors": {"contrastive": 2.0}}),
        ({"tasks": ("rotation",), "clip_norm": 0.1}, {"min_weight": 0.6}),
        ({"tasks": ("reconstruction", "contrastive")}, {}),
    ],
    ids=str,
)
def test_a_batch_in_parts_is_the_step_of_the_whole(random, settings, options):
    images = pixels(random)

    def new(micro_batches):
        layer = UncertaintyWeighting(settings.get("tasks", TASKS), **options)
        return compiled(weighting=layer, micro_batches=micro_batches, **settings)

    whole, parts = new(1), new(4)
    parts.set_weights(whole.get_weights())
    before = whole.get_weights()
    tested, found = whole.test_step(images), tf.function(parts.test_step)(images)
    for name in tested:
        assert float(found[name]) == pytest.approx(float(tested[name]), rel=1e-6), name
    for model in (whole, parts):
        model.reset_metrics()
    expected, found = whole.train_step(images), tf.function(parts.train_step)(images)
    for name in expected:
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-6), name
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert any((a != b).any() for a, b in zip(before, whole.get_weights(), strict=True))


def test_a_step_with_a_smallest_weight_and_a_floor_is_that_of_the_loops(random):
    """The raw losses are reported; the gradient of the network is weighted by at least 0.6."""
    layer = UncertaintyWeighting(TASKS, 0.6, {"contrastive": 2.0})
    model = compiled(weighting=layer)
    images = pixels(random)
    variables = model.network.trainable_variables
    with tf.GradientTape() as tape:
        losses, _ = model.objective.losses(model.make_views(images, tf.constant(0, tf.int64)), True)
        # log alpha starts at 1/2, so the weights are exp(-1/2), and twice 0.6 for exp(-1).
        total = np.exp(-0.5) * losses["reconstruction"]
        total += 0.6 * losses["rotation"] + 0.6 * losses["contrastive"]
    gradients = tape.gradient(total, [v.value for v in variables])
    expected = [v.numpy() - 0.1 * g.numpy() for v, g in zip(variables, gradients, strict=True)]
    logs = model.train_step(images)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-6, err_msg=variable.path)
    assert float(logs["contrastive"]) == pytest.approx(float(losses["contrastive"]), rel=1e-6)
    assert float(logs["loss"]) == pytest.approx(float(total) - 0.6 * 2.0 + 3 * 0.5, rel=1e-5)
    moved = 0.5 - 0.1 * (1 - 2 * np.exp(-1) * (float(losses["contrastive"]) - 2.0))
    assert float(layer.log_alphas["contrastive"]) == pytest.approx(moved, rel=1e-5)


def test_validation_batches_of_any_size_have_their_losses_in_parts(random):
    assert [smallest_parts(64, at_once, 4) for at_once in (64, 20, 4)] == [1, 4, 16]
    assert smallest_parts(10, 4, 4) == 1  # no cut suits it
    model = compiled()
    for count in (8, 10):
        views = model.make_views(pixels(random, count), tf.constant(0, tf.int64))
        parts = smallest_parts(count, 4, 4)
        losses = [losses_in_parts(model, views, each)[0] for each in (1, parts)]
        for task in TASKS:
            assert float(losses[0][task]) == pytest.approx(float(losses[1][task]), rel=1e-6)
    history = model.evaluate(pixels(random, 10), batch_size=5, return_dict=True, verbose=0)
    assert np.isfinite(list(history.values())).all()


def test_parts_that_would_share_the_turned_views_unevenly_are_refused(random):
    images = pixels(random)
    with pytest.raises(ValueError, match=r"16 does not divide into 8 micro-batches of a multiple"):
        compiled(micro_batches=8).train_step(images)
    compiled().train_step(images[:10])  # of one device, any batch will do


def test_a_model_with_a_layer_and_turned_views_is_rebuilt_and_goes_on_from_its_file(
    random, tmp_path
):
    layer = UncertaintyWeighting(TASKS, min_weight=0.25, loss_floors={"contrastive": 1.5})
    model = compiled(weighting=layer, corruption=CorruptionConfig(drop=0.1))
    images = pixels(random)
    model.fit(images, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert loaded.turned_every == 4
    assert (loaded.weighting.min_weight, loaded.weighting.loss_floors) == (
        0.25, {"contrastive": 1.5},
    )  # fmt: skip
    for each in (model, loaded):
        each.fit(images, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_layer_of_the_same_settings_is_the_weighting_by_name(random):
    by_name, by_layer = compiled(), compiled(weighting=UncertaintyWeighting(TASKS))
    by_layer.set_weights(by_name.get_weights())
    images = pixels(random)
    logs = [model.train_step(images) for model in (by_name, by_layer)]
    assert {n: float(v) for n, v in logs[0].items()} == {n: float(v) for n, v in logs[1].items()}
    assert by_name.get_config()["weighting"] == "uncertainty"
