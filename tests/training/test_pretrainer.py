import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.checks import TASKS
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import HEADS
from sit_keras.training.micro_batches import (
    gradients_in_parts,
    losses_in_parts,
    smallest_parts,
    task_gradient_norm,
)
from sit_keras.training.pretrainer import SiTPretrainer

NETWORK = dict(
    image_shape=(12, 12, 3), patch_size=4, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=24,
    drop_path_rate=0.0,
)  # fmt: skip
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(TASKS, n)]


def views_dataset(random, count=16, batch=8):
    images = random.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    views = TwoViews(12)(images, 0)
    return tf.data.Dataset.from_tensor_slices(views).batch(batch, drop_remainder=True)


def new_model(drop_path_rate=0.0, stem="patch", **settings):
    backbone = SiTBackbone(**{**NETWORK, "drop_path_rate": drop_path_rate}, stem=stem)
    return SiTPretrainer(backbone, projection_dim=8, **settings)


def compiled(optimizer=None, **settings):
    model = new_model(**settings)
    model.compile(optimizer or keras.optimizers.SGD(0.1), jit_compile=False)
    return model


@pytest.mark.parametrize("tasks", SUBSETS, ids="+".join)
@pytest.mark.parametrize("weighting", ["uncertainty", "fixed"])
def test_every_subset_of_the_tasks_trains_only_itself(random, tasks, weighting):
    model = compiled(tasks=tasks, weighting=weighting)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    (batch, _) = views_dataset(random)
    logs = model.train_step(batch)
    accuracies = {f"{task}_accuracy" for task in tasks if task != "reconstruction"}
    assert set(logs) == {"loss", *tasks} | accuracies
    changed = {v.path for v in model.trainable_variables if (v.numpy() != before[v.path]).any()}
    for task in TASKS:
        assert any(path.startswith(f"{HEADS[task]}/") for path in changed) == (task in tasks), task
        learns = any(f"log_alpha_{task}" in path for path in changed)
        assert learns == (task in tasks and weighting == "uncertainty")


def test_a_step_is_the_gradient_of_the_weighted_sum(random):
    model = compiled(weighting="fixed", task_weights=(2.0, 0.5, 1.5))
    (batch, _) = views_dataset(random)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        losses, _ = model.objective.losses(batch)
        total = (
            2.0 * losses["reconstruction"] + 0.5 * losses["rotation"] + 1.5 * losses["contrastive"]
        )
    expected = [
        v.numpy() - 0.1 * g
        for v, g in zip(variables, tape.gradient(total, [v.value for v in variables]), strict=True)
    ]
    model.train_step(batch)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize(
    ("micro_batches", "settings"),
    [
        (4, {}),
        (2, {"clip_norm": 0.1, "weighting": "fixed", "task_weights": (2.0, 0.5, 1.5)}),
        (2, {"tasks": ("contrastive",)}),
        (2, {"tasks": ("rotation", "reconstruction")}),
        (2, {"stem": "conv", "projection_layers": 3, "projection_norm": "layer"}),
    ],
    ids=str,
)
def test_a_batch_in_parts_is_the_step_of_the_whole(random, micro_batches, settings):
    (batch, _) = views_dataset(random)
    whole = compiled(**settings)
    parts = compiled(micro_batches=micro_batches, **settings)
    parts.set_weights(whole.get_weights())
    before = whole.get_weights()
    tested, logs = whole.test_step(batch), tf.function(parts.test_step)(batch)
    for name in tested:
        assert float(logs[name]) == pytest.approx(float(tested[name]), rel=1e-6), name
    for model in (whole, parts):
        model.reset_metrics()
    expected, logs = whole.train_step(batch), tf.function(parts.train_step)(batch)
    for name in expected:
        assert float(logs[name]) == pytest.approx(float(expected[name]), rel=1e-6), name
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert any((a != b).any() for a, b in zip(before, whole.get_weights(), strict=True))


def test_both_passes_over_the_parts_drop_the_same_paths(random):
    """The gradient is that of one function of the weights, its drop paths held."""
    model = new_model(drop_path_rate=0.6, micro_batches=2)
    model.compile(keras.optimizers.SGD(0.1))
    (batch, _) = views_dataset(random)
    noise = model.backbone.noise.state.numpy()
    weights = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        halves = [{name: x[i : i + 4] for name, x in batch.items()} for i in (0, 4)]
        parts = [model.objective.separate(half, training=True) for half in halves]
        embeddings = tf.concat([outputs["projection"] for outputs, _, _ in parts], 0)
        means = {task: (parts[0][1][task] + parts[1][1][task]) / 2 for task in parts[0][1]}
        total = model.weighting(model.objective.with_contrast(means, {}, embeddings)[0])
    expected = tape.gradient(total, weights)
    drawn = model.backbone.noise.state.numpy()
    model.backbone.noise.state.assign(noise)
    loss, _, _, gradients = tf.function(lambda b: gradients_in_parts(model, b))(batch)
    assert float(loss) == pytest.approx(float(total), rel=1e-6)
    for a, b, v in zip(gradients, expected, model.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, err_msg=v.path)
    np.testing.assert_array_equal(
        model.backbone.noise.state, drawn
    )  # and the next step drops others
    assert (drawn != noise).any()


def test_a_non_finite_step_changes_no_weight_and_no_mean(random):
    model = compiled(keras.optimizers.AdamW(1e-3))
    good, bad = views_dataset(random)
    bad["rotation"] = tf.zeros_like(bad["rotation"])
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step)
    first = {name: float(value) for name, value in step(good).items()}
    before = [v.numpy() for v in model.variables + model.optimizer.variables]
    bad["clean"] *= np.nan  # of which the reconstruction alone knows
    logs = step(bad)
    assert np.isnan(logs["reconstruction"]) and np.isnan(logs["loss"])
    assert np.isfinite(logs["rotation"]) and np.isfinite(logs["contrastive"])
    kept = zip(before, model.variables + model.optimizer.variables, strict=True)
    counted = {v.path for metric in model.metrics for v in metric.variables} | {model.step.path}
    assert all((a == b.numpy()).all() for a, b in kept if b.path not in counted)
    assert int(model.step) == 2  # the step is over all the same
    assert float(model.trackers["loss"].result()) == first["loss"]
    step(good)
    assert any((a != v.numpy()).any() for a, v in zip(before, model.variables, strict=False))


def test_fixed_weights_follow_the_order_of_the_tasks(random):
    weights = {"contrastive": 3.0, "reconstruction": 0.25, "rotation": 7.0}
    model = new_model(tasks=tuple(weights), weighting="fixed", task_weights=tuple(weights.values()))
    (batch, _) = views_dataset(random)
    losses, _ = model.objective.losses(batch)
    expected = sum(weights[task] * float(losses[task]) for task in weights)
    assert float(model.weighting(losses)) == pytest.approx(expected)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_gradients_are_clipped_by_their_global_norm(random, policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = compiled(keras.optimizers.SGD(1.0), clip_norm=0.01)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    before = [v.numpy() for v in model.trainable_variables]
    (batch, _) = views_dataset(random)
    model.train_step(batch)
    steps = [v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)]
    norm = np.sqrt(sum(np.sum(np.square(step)) for step in steps))
    assert norm == pytest.approx(0.01, rel=1e-2)


def test_accuracies_by_hand(random):
    model = compiled(tasks=("rotation", "contrastive"))
    (batch, _) = views_dataset(random)
    flat = tf.reshape(batch["corrupted"], (-1, 12, 12, 3))
    outputs = model.network(flat)
    _, accuracies = model.objective.losses(batch)
    guesses = np.argmax(outputs["rotation_logits"], -1)
    expected = np.mean(guesses == np.reshape(batch["rotation"], -1))
    assert float(accuracies["rotation_accuracy"]) == pytest.approx(expected)
    z = outputs["projection"].numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similarity = z @ z.T - 9 * np.eye(len(z))
    expected = np.mean(similarity.argmax(1) == (np.arange(len(z)) ^ 1))
    assert float(accuracies["contrastive_accuracy"]) == pytest.approx(expected)


def test_fit_learns_and_reports_means_over_the_epoch(random):
    model = compiled(keras.optimizers.AdamW(1e-2))
    dataset = views_dataset(random)
    losses = [model.objective.losses(batch)[0] for batch in dataset]
    history = model.evaluate(dataset, return_dict=True, verbose=0)
    for task in TASKS:
        expected = np.mean([float(loss[task]) for loss in losses])
        assert history[task] == pytest.approx(expected, rel=1e-5)
    fitted = model.fit(
        dataset, validation_data=dataset, epochs=15, verbose=0, shuffle=False
    ).history
    assert fitted["reconstruction"][-1] < 0.8 * fitted["reconstruction"][0]
    assert {"val_loss", "val_rotation_accuracy"} <= set(fitted)


def test_later_epochs_and_another_fit_trace_nothing_again(random, monkeypatch):
    traced = []

    def noted(function, name):
        """TensorFlow traces a function by running it, and from then on runs its graph."""

        def note(*args, **kwargs):
            traced.append(name)
            return function(*args, **kwargs)

        return note

    steps = [(SiTPretrainer, "train_step"), (SiTPretrainer, "test_step"), (TwoViews, "__call__")]
    for owner, name in steps:
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), name))
    model = compiled()
    images = random.integers(0, 256, (24, 12, 12, 3), dtype=np.uint8)
    settings = dict(batch_size=8, validation_data=images[:8], verbose=0)
    model.fit(images, **settings)
    first = sorted(traced)
    model.fit(images, epochs=3, **settings)
    assert sorted(traced) == first
    assert set(first) == {"train_step", "test_step", "__call__"}


def task_gradient_norms(model, batch, parts=1):
    alone = np.eye(len(model.tasks), dtype="float32")
    return {
        task: float(task_gradient_norm(model, batch, factors, parts))
        for task, factors in zip(model.tasks, alone, strict=True)
    }


def test_the_gradient_norm_of_a_task_grows_with_its_weight(random):
    model = compiled(weighting="fixed", task_weights=(0.0, 1.0, 3.0))
    (batch, _) = views_dataset(random)
    norms = task_gradient_norms(model, batch)
    assert norms["reconstruction"] == 0 and norms["rotation"] > 0
    single = compiled(weighting="fixed", task_weights=(1.0, 1.0, 1.0))
    single.set_weights(model.get_weights())
    plain = task_gradient_norms(single, batch)
    assert norms["contrastive"] == pytest.approx(3 * plain["contrastive"], rel=1e-4)


@pytest.mark.parametrize("tasks", [TASKS, ("reconstruction",), ("contrastive",)])
def test_gradient_norms_and_validation_losses_are_the_same_in_parts(random, tasks):
    model = compiled(tasks=tasks)
    (batch, _) = views_dataset(random)
    norms = [task_gradient_norms(model, batch, parts) for parts in (1, 4)]
    losses = [losses_in_parts(model, batch, parts)[0] for parts in (1, 4)]
    losses = [{name: float(value) for name, value in found.items()} for found in losses]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5) and min(norms[0].values()) > 1e-3
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_parts_are_as_large_as_they_may_be():
    assert [smallest_parts(64, at_once) for at_once in (64, 100, 32, 20, 1)] == [1, 1, 2, 4, 64]
    assert smallest_parts(17, 8) == 17


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_heads_and_losses_in_float32(random, policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = compiled(keras.optimizers.AdamW(1e-3))
        half = policy.removeprefix("mixed_")
        assert model.backbone.get_layer("block_0").mlp_in.compute_dtype == half
        for name in HEADS.values():
            assert model.network.get_layer(name).compute_dtype == "float32"
        logs = model.fit(views_dataset(random), epochs=2, verbose=0, shuffle=False).history
        assert np.isfinite(logs["loss"]).all()
        losses, _ = model.objective.losses(next(iter(views_dataset(random))))
        assert all(loss.dtype == tf.float32 for loss in losses.values())
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.slow
def test_xla_gives_the_same_step(random):
    plain, compiled_by_xla = compiled(), compiled()
    compiled_by_xla.set_weights(plain.get_weights())
    compiled_by_xla.compile(keras.optimizers.SGD(0.1), jit_compile=True)
    dataset = views_dataset(random)
    for model in (plain, compiled_by_xla):
        model.fit(dataset, verbose=0, shuffle=False)
    for a, b in zip(plain.get_weights(), compiled_by_xla.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_settings_and_batches_that_do_not_fit_are_refused(random):
    images = random.integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="at least 2 images"):
        compiled().train_step(images[:1])
    with pytest.raises(ValueError, match="8 does not divide into 3 micro-batches"):
        compiled(micro_batches=3).train_step(images)
    with pytest.raises(ValueError, match="must be square"):
        SiTPretrainer(SiTBackbone(**{**NETWORK, "image_shape": (12, 16, 3)}))
    with pytest.raises(ValueError, match="Unknown tasks"):
        new_model(tasks=("jigsaw",))
    with pytest.raises(ValueError, match="Unknown negatives"):
        new_model(negatives="none")
