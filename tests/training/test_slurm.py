import pytest

from sit_keras.training.slurm import tf_config

STEP = {
    "SLURM_PROCID": "4",
    "SLURM_STEP_NODELIST": "gpu[2,9-10],big07",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1(x2)",
    "SLURM_JOB_ID": "1230045",
}


def step_on(nodes, tasks="1"):
    """The variables of the first task of a step."""
    return {
        **STEP,
        "SLURM_PROCID": "0",
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
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
        ("n[3]", ["n3"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("n[8-10]", ["n8", "n9", "n10"]),
        ("n[1,07,5-6]", ["n1", "n07", "n5", "n6"]),
        ("n[0-1]", ["n0", "n1"]),
        ("r1n[1,3],r2n[5-6]", ["r1n1", "r1n3", "r2n5", "r2n6"]),
        # Several groups in one name: the rightmost varies fastest, as `scontrol show hostnames`.
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("r[2,1]n[09-10]", ["r2n09", "r2n10", "r1n09", "r1n10"]),
        ("a[0-1]b[0-1]c[0-1]", [
            "a0b0c0", "a0b0c1", "a0b1c0", "a0b1c1", "a1b0c0", "a1b0c1", "a1b1c0", "a1b1c1",
        ]),
        ("x[1-2][3-4]", ["x13", "x14", "x23", "x24"]),
        ("n[1-2]-ib0", ["n1-ib0", "n2-ib0"]),
        ("r[1-2]n[3].cluster.local,head", ["r1n3.cluster.local", "r2n3.cluster.local", "head"]),
        ("10.0.0.[7-8]", ["10.0.0.7", "10.0.0.8"]),
    ],
)  # fmt: skip
def test_lists_of_hosts_are_expanded_in_the_order_of_slurm(nodes, hosts):
    config = tf_config(step_on(nodes, f"1(x{len(hosts)})"))
    assert [each.split(":")[0] for each in config["cluster"]["worker"]] == hosts


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ("", "every bracket closed"),
        ("n[1-", "every bracket closed"),
        ("n1-2]", "every bracket closed"),
        ("n[1-2]]", "every bracket closed"),
        ("n[1[2-3]]", "every bracket closed"),
        ("n[1-2],", "every bracket closed"),
        (",n1", "every bracket closed"),
        ("n1,,n2", "every bracket closed"),
        ("n1 n2", "every bracket closed"),
        ("n[1-2]!", "every bracket closed"),
        ("n1\n", "every bracket closed"),
        ("n[]", "'' in brackets is neither a number nor a range"),
        ("n[1,]", "'' in brackets"),
        ("n[a-b]", "'a-b' in brackets"),
        ("n[1-b]", "'1-b' in brackets"),
        ("n[-2]", "'-2' in brackets"),
        ("n[1-2-3]", "'1-2-3' in brackets"),
        ("n[1-3x]", "'1-3x' in brackets"),
        ("n[1 -2]", "'1 -2' in brackets"),
        ("n[000x733]", "'000x733' in brackets"),
        ("n[3-1]", "the range 3-1 runs backwards"),
        ("n[08-9]", "the ends of 08-9 are padded to different widths"),
        ("n[8-010]", "the ends of 8-010 are padded"),
        ("n[1-2],n2", "n2 is in it 2 times"),
        ("n[1-999999999]", "stands for 999999999 entries, above 100000"),
        ("n[1-9999]m[1-9999]", "stands for 99980001 entries"),
    ],
)
def test_a_list_of_hosts_that_cannot_be_read_is_refused(nodes, why):
    with pytest.raises(ValueError) as refusal:
        tf_config(step_on(nodes))
    assert f"SLURM_STEP_NODELIST={nodes}" in str(refusal.value) and why in str(refusal.value)


@pytest.mark.parametrize(
    "tasks", ["", "x", "2(x2", "2(x2)!", "2(y2)", "0", "2(x0)", "1,,1", "1, 1", "-1", "1(x2)(x2)"]
)
def test_numbers_of_tasks_that_cannot_be_read_are_refused(tasks):
    with pytest.raises(ValueError, match="SLURM_STEP_TASKS_PER_NODE=.* cannot be read"):
        tf_config(step_on("n[1-2]", tasks))


def test_numbers_of_tasks_beyond_any_cluster_are_refused():
    with pytest.raises(ValueError, match="stands for 1000000 entries"):
        tf_config(step_on("n1", "1000(x1000)"))


def test_a_long_name_with_an_open_bracket_is_refused_at_once():
    with pytest.raises(ValueError, match="every bracket closed"):
        tf_config(step_on("n" * 5000 + "["))


def test_tasks_dealt_out_among_machines_are_refused():
    with pytest.raises(ValueError, match="--distribution=block"):
        tf_config({**STEP, "SLURM_DISTRIBUTION": "cyclic"})
    assert tf_config({**STEP, "SLURM_DISTRIBUTION": "block:cyclic"}) == tf_config(STEP)


def test_variables_that_are_missing_or_contradict_each_other_are_named():
    with pytest.raises(ValueError, match="SLURM_JOB_ID not set: start the command with srun"):
        tf_config({name: value for name, value in STEP.items() if name != "SLURM_JOB_ID"})
    with pytest.raises(ValueError, match=r"SLURM_STEP_TASKS_PER_NODE=2 .* 4 hosts"):
        tf_config({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2"})
    with pytest.raises(ValueError, match="SLURM_PROCID=6 is not one of the 6 tasks"):
        tf_config({**STEP, "SLURM_PROCID": "6"})
    for name in ("SLURM_PROCID", "SLURM_JOB_ID"):
        for text in ("", "x", "-1", "1.0"):
            with pytest.raises(ValueError, match=f"{name}={text} is not a whole number"):
                tf_config({**STEP, name: text})
