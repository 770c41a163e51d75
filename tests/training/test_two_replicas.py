"""Two replicas take the step of one device; `test_replicas.py` has whole trainings and workers."""

import os
import subprocess
import sys

import numpy as np
from conftest import ROOT

STEP = """
import sys
import numpy as np
import tensorflow as tf
from replica_cases import batches_of, build, fit, images, sgd, weights
from sit_keras.augment.pretext import TwoViews
from sit_keras.config.checks import TASKS
from sit_keras.config.settings import CorruptionConfig, ViewConfig
from sit_keras.models.weighting import UncertaintyWeighting
from sit_keras.training.strategy import make_strategy

cpu = tf.config.list_physical_devices("CPU")[0]
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, halves)
views = tf.data.Dataset.from_tensor_slices(TwoViews(8)(images().items[:16], 0)).batch(16)
results = {}
for name in ("one", "mirrored"):
    replicas = make_strategy(name)
    with replicas.scope():
        weighting = UncertaintyWeighting(TASKS, 0.6, {"contrastive": 1.5})
    options = {"weighting": weighting, "views": ViewConfig(turned_every=4)}
    model = build(replicas, {"micro_batches": 2, **options}, sgd)
    results[f"{name}/losses with options"] = fit(model, batches_of(model), 3)
    results[f"{name}/weights with options"] = weights(model)
    model = build(replicas, {}, sgd)
    results[f"{name}/before"] = weights(model)
    results[f"{name}/loss"] = model.fit(views, shuffle=False, verbose=0).history["loss"]
    results[f"{name}/after"] = weights(model)
    # The last batch has 3 images, shared as 2 and 1. No blocks are replaced: their donors are among
    # the images of a device.
    model = build(replicas, {"corruption": CorruptionConfig(replace=0.0)}, sgd)
    few = dict(x=images().items[:11], batch_size=8, verbose=0)
    history = model.fit(**few, shuffle=False, epochs=2).history
    results[f"{name}/losses of 11"] = [history[key] for key in sorted(history)]
    results[f"{name}/evaluated 11"] = model.evaluate(**few)
    results[f"{name}/weights of 11"] = weights(model)
    # The last batch has 1 image, so one replica has none.
    history = model.fit(images().items[:9], batch_size=8, shuffle=False, verbose=0).history
    results[f"{name}/losses of 9"] = [history[key] for key in sorted(history)]
    results[f"{name}/weights of 9"] = weights(model)
    results[f"{name}/replicas"] = model.distribute_strategy.num_replicas_in_sync
np.savez(sys.argv[1], **results)
"""


def test_two_replicas_take_the_step_of_one_device(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", STEP, tmp_path / "results.npz"],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = np.load(tmp_path / "results.npz")
    assert (found["one/replicas"], found["mirrored/replicas"]) == (1, 2)
    np.testing.assert_array_equal(found["one/before"], found["mirrored/before"])
    np.testing.assert_allclose(found["mirrored/loss"], found["one/loss"], rtol=1e-6)
    np.testing.assert_allclose(found["mirrored/after"], found["one/after"], atol=1e-7)
    for what in ("losses with options", "weights with options"):
        np.testing.assert_allclose(found[f"mirrored/{what}"], found[f"one/{what}"], atol=1e-6)
    for what in ("losses of 11", "evaluated 11", "weights of 11", "losses of 9", "weights of 9"):
        np.testing.assert_allclose(found[f"mirrored/{what}"], found[f"one/{what}"], atol=2e-6)
    assert (found["one/weights of 11"] != found["one/weights of 9"]).any()
    step = found["one/after"] - found["one/before"]
    assert np.abs(step).max() > 1e-3
