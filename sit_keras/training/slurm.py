"""TF_CONFIG from the variables that SLURM sets for each task. Standard library only."""

import re
import typing

# The ports of jobs that share a machine should differ, and none may need special rights.
_FIRST_PORT, _NUM_PORTS = 20_000, 10_000


def tf_config(environ: typing.Mapping[str, str]) -> dict:
    """Returns what TF_CONFIG should hold in this task of a job step.

    TensorFlow's own resolver sorts the hosts by name, so that n10 comes before n2 and tasks are
    taken for one another; and it wants GPUs.

    Args:
        environ: has SLURM_PROCID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE, SLURM_JOB_ID.

    Raises:
        ValueError: if one is missing or cannot be read.
    """
    needed = ("PROCID", "STEP_NODELIST", "STEP_TASKS_PER_NODE", "JOB_ID")
    missing = [f"SLURM_{name}" for name in needed if f"SLURM_{name}" not in environ]
    if missing:
        raise ValueError(f"{', '.join(missing)} not set: start the command with srun.")
    rank, hosts, tasks, job = (environ[f"SLURM_{name}"] for name in needed)
    port = _FIRST_PORT + int(job) % _NUM_PORTS
    names, counts = _expand_hosts(hosts), _expand_counts(tasks)
    order = environ.get("SLURM_DISTRIBUTION", "block")
    if not order.startswith("block") and max(counts) > 1:
        raise ValueError(
            f"SLURM_DISTRIBUTION={order} deals tasks out among machines: start the command with "
            "srun --distribution=block, or one task a machine."
        )
    if len(names) != len(counts):
        raise ValueError(
            f"SLURM_STEP_TASKS_PER_NODE={tasks} does not fit the {len(names)} hosts of "
            f"SLURM_STEP_NODELIST={hosts}."
        )
    addresses = [
        f"{host}:{port + task}"
        for host, count in zip(names, counts, strict=True)
        for task in range(count)
    ]
    return {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": int(rank)}}


def _expand_hosts(text):
    """`a[1-2,07],b` -> a1 a2 a07 b."""
    hosts = []
    for prefix, ranges in re.findall(r"([^,\[\]]+)(?:\[([^\]]+)\])?", text):
        if not ranges:
            hosts.append(prefix)
            continue
        for each in ranges.split(","):
            first, _, last = each.partition("-")
            numbers = range(int(first), int(last or first) + 1)
            hosts += [f"{prefix}{number:0{len(first)}d}" for number in numbers]
    return hosts


def _expand_counts(text):
    """`3(x2),1` -> 3 3 1."""
    counts = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts
