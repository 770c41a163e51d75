import keras
import numpy as np
import pytest

from sit_keras.config.presets import finetune_config, run_config
from sit_keras.config.settings import ViewConfig
from sit_keras.models.optimizers import WARMUP_START, SiTAdamW, cosine_schedule

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


def test_a_variant_that_is_not_computed_is_refused():
    variable = keras.Variable([1.0], name="bias")
    with pytest.raises(ValueError, match="SiTAdamW does not know amsgrad"):
        SiTAdamW(amsgrad=True).apply([keras.ops.ones(1)], [variable])
