"""One device and two replicas take the same steps. Each count in a process of its own."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from sit_keras import distribution

CASES = ("plain", "clipped", "scaled and clipped")
SCRIPT = pathlib.Path(__file__).parent / "replica_cases.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What one and two replicas came to."""
    folder = tmp_path_factory.mktemp("replicas")
    for replicas in (1, 2):
        command = [sys.executable, SCRIPT, str(replicas), folder / f"{replicas}.npz"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-3000:]
    outcomes = [np.load(folder / f"{replicas}.npz") for replicas in (1, 2)]
    assert [int(outcome["replicas"]) for outcome in outcomes] == [1, 2]
    return outcomes


@pytest.mark.parametrize("case", CASES)
def test_the_same_losses_and_weights(outcomes, case):
    one, two = outcomes
    np.testing.assert_allclose(two[f"{case}/losses"], one[f"{case}/losses"], rtol=1e-6)
    np.testing.assert_allclose(two[f"{case}/weights"], one[f"{case}/weights"], atol=1e-6)
    assert one[f"{case}/losses"][-1] < one[f"{case}/losses"][0]


def test_local_negatives_are_another_loss(outcomes):
    one, two = outcomes
    assert np.abs(two["local/losses"] - one["local/losses"]).max() > 0.01


def test_a_nan_on_one_replica_reaches_no_weight(outcomes):
    assert not any(outcome["nan/changed"] for outcome in outcomes)


def test_each_replica_has_noise_of_its_own(outcomes):
    first, second = outcomes[1]["noise"]
    assert (first != second).any()


RUN = """
import sys
import tensorflow as tf
from sit_keras import callbacks, recipe, run
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sizes = dict(image_size=8, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=16, drop_path_rate=0.1)
config = recipe("digits", sizes, epochs=3, batch_size=64, steps_per_epoch=4, warmup_epochs=1)
stop_after = int(sys.argv[3])
begin = callbacks.Report.on_epoch_begin
def cut(self, epoch, logs=None):
    if epoch == stop_after:
        raise KeyboardInterrupt
    begin(self, epoch, logs)
callbacks.Report.on_epoch_begin = cut
results = run.pretrain(config, sys.argv[1], strategy=sys.argv[2])
print(results["linear_accuracy"]["trained"])
"""


def test_a_whole_run_starts_on_two_replicas_and_ends_on_one(tmp_path):
    def go(strategy, stop_after):
        command = [sys.executable, "-c", RUN, tmp_path / "run", strategy, str(stop_after)]
        return subprocess.run(command, capture_output=True, text=True)

    cut = go("mirrored", 1)
    assert "KeyboardInterrupt" in cut.stderr and "epoch 1/3" in cut.stdout, cut.stderr[-3000:]
    rest = go("one", 3)
    assert rest.returncode == 0, rest.stderr[-3000:]
    assert "Going on from step 4" in rest.stdout and "epoch 1/3" not in rest.stdout
    assert float(rest.stdout.split()[-1]) > 0.2


def test_an_unknown_strategy():
    with pytest.raises(ValueError, match="Unknown strategy 'tpu'"):
        distribution.make_strategy("tpu")
