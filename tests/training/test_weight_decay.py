"""AdamW of the pre-training: what decays, the schedule, and what a saved model keeps of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.config.settings import RunConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.optimizers import SiTAdamW, build_optimizer, decays
from sit_keras.training.pretrainer import SiTPretrainer


def new_model():
    return SiTPretrainer(SiTBackbone((8, 8, 3), 4, 8, 2, 1, 8), projection_dim=4)


def test_what_does_not_decay():
    model = new_model()
    exempt = {v.path for v in model.trainable_variables if not decays(v)}
    decayed = {v.path for v in model.trainable_variables} - exempt
    assert all(path.endswith("kernel") for path in decayed)
    assert sum(path.endswith("kernel") for path in exempt) == 0
    assert {path.split("/")[-1] for path in exempt} == {
        "bias", "gamma", "beta", "positions", "rotation_token", "contrastive_token",
        "log_alpha_reconstruction", "log_alpha_rotation", "log_alpha_contrastive",
    }  # fmt: skip


def test_the_optimizer_decays_only_what_it_may():
    model = new_model()
    config = RunConfig(weight_decay=0.5, warmup_epochs=0, batch_size=512)
    optimizer = build_optimizer(config, steps_per_epoch=10)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply_gradients(zip(zeros, model.trainable_variables, strict=True))
    exempt = {v.path for v in model.trainable_variables if not decays(v)}
    for v in model.trainable_variables:
        factor = 1.0 if v.path in exempt else 1 - 0.5 * 1e-3
        np.testing.assert_allclose(v, factor * before[v.path], rtol=1e-6, err_msg=v.path)


def test_the_schedule_warms_up_and_falls_to_the_smallest_rate():
    config = RunConfig(epochs=20, warmup_epochs=5, batch_size=256)
    rate = build_optimizer(config, 10)._learning_rate
    values = [float(rate(step)) for step in (0, 25, 50, 125, 200, 999)]
    peak = 1e-3 * 256 / 512
    middle = (peak + 5e-6) / 2
    expected = [1e-6, (1e-6 + peak) / 2, peak, middle, 5e-6, 5e-6]
    assert values == pytest.approx(expected, rel=1e-4)


def test_a_saved_model_leaves_out_the_same_variables_from_decay(tmp_path, random):
    model = new_model()
    model.compile(SiTAdamW(0.1, weight_decay=0.5), run_eagerly=True, jit_compile=False)
    model.fit(random.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, SiTAdamW)
    before = {v.path: v.numpy() for v in loaded.trainable_variables}
    # Without moments, a gradient of zero moves a variable by its decay alone.
    for variable in loaded.optimizer.variables:
        if "momentum" in variable.path or "velocity" in variable.path:
            variable.assign(tf.zeros(variable.shape))
    loaded.optimizer.apply(
        [tf.zeros(v.shape) for v in loaded.trainable_variables], loaded.trainable_variables
    )
    moved = {v.path for v in loaded.trainable_variables if (v.numpy() != before[v.path]).any()}
    assert moved == {v.path for v in loaded.trainable_variables if decays(v)}
