import pytest

from sit_keras.training.slurm import tf_config

STEP = {
    "SLURM_PROCID": "4",
    "SLURM_STEP_NODELIST": "gpu[2,9-10],big07",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1(x2)",
    "SLURM_JOB_ID": "1230045",
}


def test_tasks_stand_in_the_order_of_their_ranks():
    workers = [
        "gpu2:20045", "gpu2:20046", "gpu9:20045", "gpu9:20046", "gpu10:20045", "big07:20045",
    ]  # fmt: skip
    assert tf_config(STEP) == {
        "cluster": {"worker": workers},
        "task": {"type": "worker", "index": 4},
    }


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ("one", ["one"]),
        ("a-1,b-2", ["a-1", "b-2"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("r1n[1,3],r2n[5-6]", ["r1n1", "r1n3", "r2n5", "r2n6"]),
    ],
)
def test_lists_of_hosts(nodes, hosts):
    step = {
        **STEP,
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": f"1(x{len(hosts)})",
        "SLURM_PROCID": "0",
    }
    assert [each.split(":")[0] for each in tf_config(step)["cluster"]["worker"]] == hosts


def test_tasks_dealt_out_among_machines_are_refused():
    with pytest.raises(ValueError, match="--distribution=block"):
        tf_config({**STEP, "SLURM_DISTRIBUTION": "cyclic"})
    assert tf_config({**STEP, "SLURM_DISTRIBUTION": "block:cyclic"}) == tf_config(STEP)


def test_what_is_missing_or_does_not_fit_is_named():
    with pytest.raises(ValueError, match="SLURM_JOB_ID not set: start the command with srun"):
        tf_config({name: value for name, value in STEP.items() if name != "SLURM_JOB_ID"})
    with pytest.raises(ValueError, match=r"SLURM_STEP_TASKS_PER_NODE=2 .* 4 hosts"):
        tf_config({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2"})
