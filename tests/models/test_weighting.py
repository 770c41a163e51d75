"""What keeps a learned weight from starving its task: a smallest weight, the floor of the loss."""

import itertools
import math

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from sit_keras.config.checks import TASKS
from sit_keras.config.presets import run_config
from sit_keras.models.weighting import (
    FixedWeighting,
    UncertaintyWeighting,
    build_weighting,
    contrastive_floor,
    run_weighting,
)

LOSSES = {"reconstruction": 0.34, "rotation": 1.21, "contrastive": 4.43}
OPTIONS = [
    {"min_weight": 0.5},
    {"loss_floors": {"contrastive": 3.5}},
    {"min_weight": 2.0, "loss_floors": {"contrastive": 3.5, "rotation": 1.0}},
]


def by_hand(losses, log_alphas, min_weight=0.0, loss_floors=None):
    """The total, and its gradients by the losses and by log alpha, one task after the other."""
    total, by_loss, by_log_alpha = 0.0, {}, {}
    for task, loss in losses.items():
        power = 1 if task == "reconstruction" else 2
        loss -= (loss_floors or {}).get(task, 0.0)
        learned = math.exp(-power * log_alphas[task])
        used = learned if learned > min_weight else min_weight
        total += used * loss + log_alphas[task]
        by_loss[task] = used
        by_log_alpha[task] = 1 - power * learned * loss  # as without a smallest weight
    return total, by_loss, by_log_alpha


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
def test_the_total_and_its_gradients_are_those_of_the_loops(options):
    layer = UncertaintyWeighting(TASKS, **options)
    log_alphas = {"reconstruction": -0.7, "rotation": 0.2, "contrastive": 1.1}
    for task, value in log_alphas.items():
        layer.log_alphas[task].assign(value)
    losses = {task: tf.constant(loss) for task, loss in LOSSES.items()}
    with tf.GradientTape() as tape:
        tape.watch(losses)
        total = layer(losses)
    variables = {task: layer.log_alphas[task].value for task in TASKS}
    by_loss, by_log_alpha = tape.gradient(total, (losses, variables))
    expected = by_hand(LOSSES, log_alphas, **options)
    assert float(total) == pytest.approx(expected[0], rel=1e-6)
    for task in TASKS:
        assert float(by_loss[task]) == pytest.approx(expected[1][task], rel=1e-6)
        assert float(layer.task_weights()[task]) == pytest.approx(expected[1][task], rel=1e-6)
        assert float(by_log_alpha[task]) == pytest.approx(expected[2][task], rel=1e-5)


def learn(layer, loss, steps):
    optimizer = keras.optimizers.SGD(0.2)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            total = layer({"contrastive": tf.constant(loss)})
        gradients = tape.gradient(total, [v.value for v in layer.trainable_variables])
        optimizer.apply(gradients, layer.trainable_variables)
    return float(layer.task_weights()["contrastive"]), float(layer.alphas()["contrastive"])


def test_a_weight_at_the_smallest_one_rises_again_when_its_loss_has_become_small():
    layer = UncertaintyWeighting(["contrastive"], min_weight=0.3)
    # alpha^2 = 2 L, as without a smallest weight, which would be 1 / 8.86.
    assert learn(layer, 4.43, 60) == pytest.approx((0.3, math.sqrt(8.86)), rel=1e-3)
    assert learn(layer, 0.5, 60) == pytest.approx((1.0, 1.0), rel=1e-3)


def test_the_weight_follows_how_far_a_loss_is_above_its_floor():
    layer = UncertaintyWeighting(["contrastive"], loss_floors={"contrastive": 3.93})
    assert learn(layer, 4.43, 60)[0] == pytest.approx(1.0, rel=1e-3)
    plain = UncertaintyWeighting(["contrastive"])
    assert learn(plain, 4.43, 60)[0] == pytest.approx(1 / 8.86, rel=1e-3)


def simplex(images):
    """The embeddings of images, two alike for each, as far apart as so many can be."""
    corners = np.eye(images) - 1 / images
    return np.repeat(corners, 2, axis=0).astype("float32")


@pytest.mark.parametrize(("images", "temperature"), [(2, 0.5), (5, 0.2), (24, 0.5), (24, 0.07)])
def test_the_contrastive_loss_reaches_its_floor_at_a_simplex_and_never_falls_below(
    random, images, temperature
):
    floor = contrastive_floor(images, temperature)
    best = simplex(images)
    assert np.mean(reference.nt_xent(best, temperature)) == pytest.approx(floor, rel=1e-4)
    for width, noise in itertools.product((2, images), (0.01, 0.3, 10.0)):
        embeddings = best[:, :width] + noise * random.normal(size=(2 * images, width))
        assert np.mean(reference.nt_xent(embeddings, temperature)) >= floor - 1e-9


def test_the_floor_by_hand():
    # Two images: the other one is opposite, and both of its views count.
    assert contrastive_floor(2, 0.5) == pytest.approx(math.log(1 + 2 * math.exp(-4)))
    assert contrastive_floor(128, 0.5) == pytest.approx(3.5507, abs=1e-4)
    assert contrastive_floor(1, 0.5) == 0.0  # nothing to tell an image from
    assert contrastive_floor(4, 1e-4) == 0.0


@pytest.mark.parametrize(
    ("changes", "replicas", "weight", "floors"),
    [
        ({}, 2, 0.0, {}),
        ({"min_task_weight": 0.2}, 1, 0.2, {}),
        ({"subtract_loss_floor": True}, 2, 0.0, {"contrastive": contrastive_floor(64, 0.5)}),
        ({"subtract_loss_floor": True, "negatives": "local", "temperature": 0.2}, 2, 0.0,
         {"contrastive": contrastive_floor(32, 0.2)}),
        ({"subtract_loss_floor": True, "tasks": ("rotation",)}, 1, 0.0, {}),
    ],
    ids=str,
)  # fmt: skip
def test_the_weighting_of_a_run_is_that_of_its_settings(changes, replicas, weight, floors):
    config = run_config("digits", **changes)
    layer = run_weighting(config, replicas)
    assert (layer.tasks, layer.name) == (config.tasks, "weighting")
    assert (layer.min_weight, layer.loss_floors) == (weight, floors)
    fixed = run_weighting(run_config("digits", weighting="fixed", task_weights=(1, 2, 3)))
    assert type(fixed) is FixedWeighting and fixed.values == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_weighting_with_options_rebuilds_from_its_config(options):
    layer = UncertaintyWeighting(TASKS, **options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert (again.min_weight, again.loss_floors) == (layer.min_weight, layer.loss_floors)


def test_weightings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"min_weight must be 0 or above, received -0.1\."):
        UncertaintyWeighting(TASKS, min_weight=-0.1)
    with pytest.raises(ValueError, match=r"loss_floors names contrast, and the tasks are rotation"):
        UncertaintyWeighting(["rotation"], loss_floors={"contrast": 1.0})
    layer = UncertaintyWeighting(["rotation"], name="mine")
    with pytest.raises(ValueError, match=r"mine is of the tasks rotation, and the losses"):
        build_weighting(layer, TASKS)
    with pytest.raises(ValueError, match=r"task_weights \(1.0,\) were given beside a layer"):
        build_weighting(layer, ["rotation"], [1.0])
    with pytest.raises(ValueError, match=r"weighting dense is of the tasks \(none\)"):
        build_weighting(keras.layers.Dense(3, name="dense"), TASKS)
    assert build_weighting(layer, ["rotation"]) is layer
