"""TF_CONFIG from the variables that SLURM sets for each task. Standard library only."""

import collections
import itertools
import math
import re
import typing

# The ports of jobs that share a machine should differ, and none may need special rights.
_FIRST_PORT, _NUM_PORTS = 20_000, 10_000

# Reading `n[1-999999999]` would fill the memory; no cluster has as many tasks.
_MAX_TASKS = 100_000

# A host is text and bracket groups in any order: `r[1-2]n[08-11,20]-ib0`.
_LETTER, _GROUP = r"[A-Za-z0-9._-]", r"\[[^\[\]]*\]"
_HOST = rf"(?:{_LETTER}|{_GROUP})+"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_COUNT = re.compile(r"([1-9][0-9]{0,18})(?:\(x([1-9][0-9]{0,18})\))?")


def tf_config(environ: typing.Mapping[str, str]) -> dict:
    """Returns what TF_CONFIG should hold in this task of a job step.

    TensorFlow's own resolver sorts the hosts by name, so that n10 comes before n2 and tasks are
    taken for one another, and it requires GPUs.

    Args:
        environ: has SLURM_PROCID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE, SLURM_JOB_ID.

    Raises:
        ValueError: if one is missing, cannot be read or contradicts another.
    """
    needed = ("PROCID", "STEP_NODELIST", "STEP_TASKS_PER_NODE", "JOB_ID")
    missing = [f"SLURM_{name}" for name in needed if f"SLURM_{name}" not in environ]
    if missing:
        raise ValueError(f"{', '.join(missing)} not set: start the command with srun.")
    hosts, tasks = environ["SLURM_STEP_NODELIST"], environ["SLURM_STEP_TASKS_PER_NODE"]
    rank, job = _whole_number(environ, "SLURM_PROCID"), _whole_number(environ, "SLURM_JOB_ID")
    port = _FIRST_PORT + job % _NUM_PORTS
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
    if rank >= sum(counts):
        raise ValueError(
            f"SLURM_PROCID={rank} is not one of the {sum(counts)} tasks that "
            f"SLURM_STEP_TASKS_PER_NODE={tasks} counts."
        )
    addresses = [
        f"{host}:{port + task}"
        for host, count in zip(names, counts, strict=True)
        for task in range(count)
    ]
    return {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}


def _whole_number(environ, name):
    text = environ[name]
    if not re.fullmatch("[0-9]+", text):
        raise ValueError(f"{name}={text} is not a whole number.")
    return int(text)


def _expand_hosts(text):
    """`r[1-2]n[07,9]-ib,b` -> r1n07-ib r1n9-ib r2n07-ib r2n9-ib b, in SLURM's own order."""
    if not _HOSTS.fullmatch(text):
        raise _unreadable_hosts(
            text, "expected names such as n1,r[1-2]n[08-11,20] with every bracket closed"
        )
    hosts = []
    for host in re.findall(_HOST, text):
        parts = [
            _expand_group(part[1:-1], text) if part.startswith("[") else [part]
            for part in re.findall(rf"{_LETTER}+|{_GROUP}", host)
        ]
        _check_size("SLURM_STEP_NODELIST", text, len(hosts), *map(len, parts))
        hosts += map("".join, itertools.product(*parts))  # the rightmost group varies fastest
    host, times = collections.Counter(hosts).most_common(1)[0]
    if times > 1:  # its tasks would share their ports
        raise _unreadable_hosts(text, f"{host} is in it {times} times")
    return hosts


def _expand_group(ranges, text):
    """The inside of one pair of brackets: `08-10,20` -> 08 09 10 20."""
    numbers = []
    for each in ranges.split(","):
        match = _RANGE.fullmatch(each)
        if not match:
            raise _unreadable_hosts(
                text, f"{each!r} in brackets is neither a number nor a range such as 08-11"
            )
        first, last = match[1], match[2] or match[1]
        if int(last) < int(first):
            raise _unreadable_hosts(text, f"the range {each} runs backwards")
        padded = [number for number in (first, last) if number[0] == "0" and len(number) > 1]
        if padded and len(first) != len(last):
            raise _unreadable_hosts(text, f"the ends of {each} are padded to different widths")
        _check_size("SLURM_STEP_NODELIST", text, len(numbers), int(last) - int(first) + 1)
        numbers += [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
    return numbers


def _unreadable_hosts(text, why):
    return ValueError(f"SLURM_STEP_NODELIST={text} cannot be read: {why}.")


def _check_size(variable, text, so_far, *factors):
    size = so_far + math.prod(factors)
    if size > _MAX_TASKS:
        raise ValueError(f"{variable}={text} stands for {size} entries, above {_MAX_TASKS}.")


def _expand_counts(text):
    """`3(x2),1` -> 3 3 1."""
    counts = []
    for each in text.split(","):
        match = _COUNT.fullmatch(each)
        if not match:
            raise ValueError(
                f"SLURM_STEP_TASKS_PER_NODE={text} cannot be read: {each!r} is not a number of "
                "tasks such as 2 or 2(x3)."
            )
        count, times = int(match[1]), int(match[2] or 1)
        _check_size("SLURM_STEP_TASKS_PER_NODE", text, sum(counts), count, times)
        counts += [count] * times
    return counts
