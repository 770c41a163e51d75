"""One device, two replicas and two workers take the same steps. Each in a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import free_ports

from sit_keras.training import strategy

CASES = ("plain", "scaled and clipped", "scaled, clipped, in parts", "stem and head")
SCRIPT = pathlib.Path(__file__).parents[1] / "replica_cases.py"

pytestmark = pytest.mark.slow


def run_cases(strategy, output, environment=None):
    return subprocess.Popen(
        [sys.executable, SCRIPT, strategy, output],
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What one device, each of two replicas, and two workers came to."""
    folder = tmp_path_factory.mktemp("replicas")
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    # Two processes at a time.
    rounds = [
        {"one": {}, "mirrored": {}},
        {
            f"multiworker {i}": {
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}}
                )
            }
            for i in range(2)
        },
    ]
    outcomes = {}
    for processes in rounds:
        started = {
            name: run_cases(name.split()[0], folder / f"{name}.npz", environment)
            for name, environment in processes.items()
        }
        for name, process in started.items():
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors[-3000:]
            outcomes[name] = np.load(folder / f"{name}.npz")
    assert [int(outcome["replicas"]) for outcome in outcomes.values()] == [1, 2, 2, 2]
    return outcomes


@pytest.mark.parametrize("several", ["mirrored", "multiworker 0", "multiworker 1"])
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_and_two_workers_have_the_losses_and_weights_of_one_device(
    outcomes, case, several
):
    one, two = outcomes["one"], outcomes[several]
    np.testing.assert_allclose(two[f"{case}/losses"], one[f"{case}/losses"], rtol=1e-6)
    np.testing.assert_allclose(two[f"{case}/weights"], one[f"{case}/weights"], atol=1e-6)
    assert one[f"{case}/moved"] > 0.003


def test_the_same_views_bit_for_bit(outcomes):
    """One device makes all of them, each replica and each worker those of its own images."""
    one, two = outcomes["one"], outcomes["mirrored"]
    workers = [outcomes[f"multiworker {i}"] for i in range(2)]
    for name in ("views/corrupted", "views/clean", "views/rotation"):
        assert len(workers[0][name]) == 8
        np.testing.assert_array_equal(two[name], one[name])
        np.testing.assert_array_equal(np.concatenate([w[name] for w in workers]), one[name])


@pytest.mark.parametrize("anchors", [1024, 5])
def test_the_contrast_of_two_replicas_at_once_and_in_blocks_is_that_of_one_device(
    outcomes, anchors
):
    found = {
        name: outcomes["mirrored"][f"contrast of {anchors}/{name}"]
        for name in ("loss", "accuracy", "gradients")
    }
    expected = {name: outcomes["one"][f"contrast of 1024/{name}"] for name in found}
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
    np.testing.assert_allclose(found["accuracy"], expected["accuracy"], rtol=1e-6)
    largest = np.abs(expected["gradients"]).max()
    np.testing.assert_allclose(found["gradients"], expected["gradients"], atol=1e-6 * largest)
    assert 0.1 < expected["accuracy"] < 0.95


def test_local_negatives_are_another_loss(outcomes):
    one, two = outcomes["one"], outcomes["mirrored"]
    case = "local, remat/losses"
    assert np.abs(two[case] - one[case]).max() > 0.01


@pytest.mark.parametrize("case", ["plain", "scaled, clipped, in parts"])
def test_a_nan_on_one_replica_reaches_no_weight(outcomes, case):
    assert not any(outcome[f"{case}/moved by a NaN"] for outcome in outcomes.values())


@pytest.mark.parametrize("several", ["mirrored", "multiworker 0"])
def test_the_same_features_in_the_same_order(outcomes, several):
    assert outcomes["one"]["features"].shape == (11, 24)
    np.testing.assert_allclose(
        outcomes[several]["features"], outcomes["one"]["features"], atol=1e-6
    )


def test_each_replica_has_noise_of_its_own(outcomes):
    first, second = outcomes["mirrored"]["noise"]
    assert (first != second).any()
    (first,), (second,) = (outcomes[f"multiworker {i}"]["noise"] for i in range(2))
    assert (first != second).any()


RUN = """
import sys
import tensorflow as tf
from sit_keras import EpochReport, Execution, pretrain, run_config
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sizes = dict(image_size=8, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=16, drop_path_rate=0.1)
config = run_config("digits", sizes, epochs=3, batch_size=64, steps_per_epoch=4, warmup_epochs=1)
stop_after = int(sys.argv[3])
begin = EpochReport.on_epoch_begin
def cut(self, epoch, logs=None):
    if epoch == stop_after:
        raise KeyboardInterrupt
    begin(self, epoch, logs)
EpochReport.on_epoch_begin = cut
results = pretrain(config, sys.argv[1], execution=Execution(strategy=sys.argv[2]))
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


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="Unknown strategy 'tpu'"):
        strategy.make_strategy("tpu")


@pytest.mark.parametrize("frozen", [False, True])
def test_fine_tuning_gives_the_same_weights_on_two_replicas(outcomes, frozen):
    """AdamW amplifies rounding, so not to the last digit; test images that do not divide by two."""
    one, two = (outcomes[name][f"fine-tuned, frozen: {frozen}"] for name in ("one", "mirrored"))
    np.testing.assert_allclose(one, two, atol=1e-5)
    accuracies = [outcomes[name][f"accuracy, frozen: {frozen}"] for name in ("one", "mirrored")]
    assert accuracies[0] == accuracies[1]
