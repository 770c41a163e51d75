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
    np.testing.assert_allclose(two[f"{case}/losses"], one[f"{case}/losses"], atol=1e-6)
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


def test_an_unknown_strategy():
    with pytest.raises(ValueError, match="Unknown strategy 'tpu'"):
        distribution.make_strategy("tpu")
