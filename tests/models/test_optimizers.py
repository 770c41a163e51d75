import math

import keras
import numpy as np
import pytest

from sit_keras.config.presets import finetune_config, run_config
from sit_keras.config.settings import ViewConfig
from sit_keras.models.optimizers import WARMUP_START, SiTAdamW, build_optimizer, cosine_schedule

STEPS = 10


def settings(**changes):
    """The paper's settings of both kinds of training, with five epochs of warm-up."""
    return run_config("paper", **changes), finetune_config("paper", ViewConfig(), **changes)


def test_a_run_of_two_epochs_warms_up_in_the_first_and_decays_in_the_second():
    for config in settings(epochs=2):
        rate = cosine_schedule(config, STEPS)
        peak, low = config.peak_learning_rate, config.min_learning_rate
        rates = [float(rate(step)) for step in (0, STEPS, 1.5 * STEPS, 2 * STEPS)]
        assert rates == pytest.approx([WARMUP_START, peak, (peak + low) / 2, low], rel=1e-4)


def test_a_run_of_one_epoch_has_no_warm_up():
    for config in settings(epochs=1):
        rate = cosine_schedule(config, STEPS)
        rates = [float(rate(step)) for step in (0, STEPS)]
        expected = [config.peak_learning_rate, config.min_learning_rate]
        assert rates == pytest.approx(expected, rel=1e-4)


def test_the_warm_up_of_a_long_run_is_as_long_as_it_was_set():
    for config in settings(epochs=20):
        rate = cosine_schedule(config, STEPS)
        peak = config.peak_learning_rate
        rates = [float(rate(step)) for step in (4 * STEPS, 5 * STEPS)]
        assert rates == pytest.approx([WARMUP_START + 0.8 * (peak - WARMUP_START), peak], rel=1e-4)


def test_a_peak_below_the_smallest_rate_stays():
    config = run_config("paper", batch_size=2, warmup_epochs=0)
    assert config.peak_learning_rate < config.min_learning_rate
    rate = cosine_schedule(config, STEPS)
    rates = [float(rate(step)) for step in (0, 1000, 5010)]
    assert rates == pytest.approx(3 * [config.peak_learning_rate], rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_steps_are_those_of_keras_adamw(dtype):
    random = np.random.default_rng(0)
    schedule = cosine_schedule(run_config("digits", epochs=4, warmup_epochs=1), steps_per_epoch=3)
    start = random.normal(size=(4, 3)), random.normal(size=3)
    ours, theirs = (
        [keras.Variable(values, dtype=dtype, name="kernel") for values in start] for _ in range(2)
    )
    optimizer = SiTAdamW(schedule, weight_decay=0.5)
    reference = keras.optimizers.AdamW(schedule, weight_decay=0.5, epsilon=1e-8)
    reference.exclude_from_weight_decay(var_list=theirs[1:])  # a vector, like a bias
    for _ in range(12):
        gradients = [keras.ops.convert_to_tensor(random.normal(size=v.shape), dtype) for v in ours]
        optimizer.apply(gradients, ours)
        reference.apply(gradients, theirs)
    for a, b, before in zip(ours, theirs, start, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.abs(a.numpy() - before).max() > 1e-3


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "in a loss scale"])
def test_what_the_user_excludes_from_weight_decay_does_not_decay_either(wrapped):
    names = ("kernel", "bias", "embeddings", "table")
    variables = [keras.Variable(np.ones((2, 2)), name=name) for name in names]
    variables[1] = keras.Variable(np.ones(2), name="bias")
    for excluded, expected in [
        ({"var_list": variables[2:3]}, {"kernel", "table"}),
        ({"var_names": ["emb", "tab"]}, {"kernel"}),
        ({"var_list": variables[:1], "var_names": ["tab"]}, {"embeddings"}),
        ({}, {"kernel", "embeddings", "table"}),
    ]:
        optimizer = SiTAdamW(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(**excluded)
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if wrapped else optimizer
        for variable in variables:
            variable.assign(keras.ops.ones_like(variable))
        optimizer.apply([keras.ops.zeros_like(variable) for variable in variables], variables)
        shrunk = {each.name for each in variables if float(keras.ops.max(each)) < 1}
        assert shrunk == expected, excluded


def test_a_variant_that_is_not_computed_is_refused():
    variable = keras.Variable([1.0], name="bias")
    with pytest.raises(ValueError, match="SiTAdamW does not know amsgrad"):
        SiTAdamW(amsgrad=True).apply([keras.ops.ones(1)], [variable])


def test_the_rate_grows_with_the_root_of_the_batch_and_is_the_same_at_512():
    settings = {"learning_rate": 0.001}
    peaks = [
        run_config("paper", batch_size=size, rate_scaling=how, **settings).peak_learning_rate
        for size in (128, 512, 2048)
        for how in ("linear", "sqrt")
    ]
    assert peaks == pytest.approx([0.00025, 0.0005, 0.001, 0.001, 0.004, 0.002])


def adamw_by_hand(start, gradients, rates, decays):
    """Adam with decoupled weight decay, one number after the other."""
    values = start.copy()
    for index in np.ndindex(start.shape):
        mean = square = 0.0
        for step, (gradient, rate, decay) in enumerate(
            zip(gradients, rates, decays, strict=True), 1
        ):
            mean = 0.9 * mean + 0.1 * gradient[index]
            square = 0.999 * square + 0.001 * gradient[index] ** 2
            change = (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
            values[index] -= rate * change + rate * decay * values[index]
    return values


@pytest.mark.parametrize("end", [None, 0.9, 0.0], ids=str)
def test_the_weight_decay_goes_along_a_cosine_over_the_run(random, end):
    config = run_config("digits", epochs=4, warmup_epochs=1, weight_decay=0.3, weight_decay_end=end)
    optimizer, steps = build_optimizer(config, steps_per_epoch=3), 12
    rates = [float(optimizer._learning_rate(step)) for step in range(steps)]
    last = 0.3 if end is None else end
    decays = [last + (0.3 - last) * (1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps)]
    start = random.normal(size=(4, 3))
    gradients = [random.normal(size=start.shape) for _ in range(steps)]
    kernel = keras.Variable(start, dtype="float64", name="kernel")
    bias = keras.Variable(start[0], dtype="float64", name="bias")  # which does not decay
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in (gradient, gradient[0])],
                        [kernel, bias])  # fmt: skip
    expected = adamw_by_hand(start, gradients, rates, decays)
    np.testing.assert_allclose(kernel, expected, atol=1e-6)
    plain = adamw_by_hand(start[0], [g[0] for g in gradients], rates, [0.0] * steps)
    np.testing.assert_allclose(bias, plain, atol=1e-6)


def test_an_optimizer_with_a_schedule_of_its_decay_is_rebuilt_from_its_config():
    config = run_config("digits", weight_decay=0.04, weight_decay_end=0.4)
    optimizer = build_optimizer(config, steps_per_epoch=5)
    saved = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(saved)
    assert keras.saving.serialize_keras_object(again) == saved
    middle = config.epochs * 5 / 2
    assert float(again.weight_decay(middle)) == pytest.approx(0.22)
    assert build_optimizer(run_config("digits"), 5).get_config()["weight_decay"] == 0.05
