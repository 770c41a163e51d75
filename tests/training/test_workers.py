"""Whole runs of two workers on this machine, by the command."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import free_ports

from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.strategy import make_strategy

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = ["--epochs=3", "--warmup_epochs=1", "--steps_per_epoch=6", "--sheet_every=3"]

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def two_workers(run_dir, arguments=((), ())):
    """The two processes of a run, with extra arguments for each."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    workers = [
        subprocess.Popen(
            [
                sys.executable, ROOT / "train.py", "--noexport", "--strategy=multiworker",
                f"--run_dir={run_dir}", *SETTINGS, *extra,
            ],
            env={**os.environ, "TF_CONFIG": json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            )},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index, extra in enumerate(arguments)
    ]  # fmt: skip
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def finish(workers, timeout=120):
    return [worker.communicate(timeout=timeout) for worker in workers]


def wait_for(worker, text):
    line = next((line for line in worker.stdout if text in line), None)
    assert line is not None, worker.stderr.read()[-3000:]


def test_a_worker_is_killed_and_the_run_goes_on(tmp_path):
    """The chief stops with a sentence within a minute; both go on, and end as one would."""
    with two_workers(tmp_path / "two") as (chief, other):
        wait_for(chief, "epoch 1/3")
        other.kill()
        begin = time.monotonic()
        _, errors = chief.communicate(timeout=60)
        print(f"the chief stopped after {time.monotonic() - begin:.0f} s")
    assert chief.returncode == 1
    assert "train.py: Another worker is gone" in errors and "Traceback" not in errors

    with two_workers(tmp_path / "two") as workers:
        outputs = finish(workers)
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert "Going on from step" in outputs[0][0] and "epoch 3/3" in outputs[0][0]
    assert "epoch" not in outputs[1][0]  # one of them speaks

    alone = subprocess.run(
        [
            sys.executable,
            ROOT / "train.py",
            "--noexport",
            f"--run_dir={tmp_path / 'one'}",
            *SETTINGS,
        ],
        capture_output=True,
    )
    assert alone.returncode == 0
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")
    )
    assert one["losses"].keys() == two["losses"].keys()
    # Adam divides rounding by rounding where a gradient is zero, hence not 1e-6.
    assert two["losses"]["loss"] == pytest.approx(one["losses"]["loss"], abs=1e-3)
    assert two["losses"]["val_loss"] == pytest.approx(one["losses"]["val_loss"], abs=1e-3)
    encoders = (SiTBackbone.from_preset(tmp_path / name) for name in ("one", "two"))
    pairs = zip(*(encoder.get_weights() for encoder in encoders), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) < 2e-3


def test_all_workers_stop_after_the_same_step_where_one_is_told_to(tmp_path):
    with two_workers(tmp_path / "run", (["--epochs=500"], ["--epochs=500"])) as (chief, other):
        wait_for(chief, "epoch   1/500")
        other.send_signal(signal.SIGTERM)
        outputs = finish((chief, other))
    errors = [error for _, error in outputs]
    steps = [error.split("saved after step ")[1].split(".")[0] for error in errors]
    assert steps[0] == steps[1]
    assert "Stopped by another worker" in errors[0] and "Stopped by SIGTERM" in errors[1]
    assert (tmp_path / "run" / "checkpoints" / f"ckpt-{steps[0]}.npz").exists()


@pytest.mark.parametrize(
    ("other", "of_the_chief", "of_the_other"),
    [
        (
            "--seed=2",
            "The workers differ in their settings",
            "The workers differ in their settings",
        ),
        ("--dataset=folder:nowhere", "Another worker could not begin", "No folder nowhere"),
    ],
)
def test_workers_with_other_settings_or_images_are_refused(
    tmp_path, other, of_the_chief, of_the_other
):
    with two_workers(tmp_path / "run", ([], [other, "--preset=digits"])) as workers:
        (_, chief), (_, worker) = finish(workers)
    assert f"train.py: {of_the_chief}" in chief and f"train.py: {of_the_other}" in worker


def test_a_worker_that_knows_no_others_is_refused(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"start the command with srun, or set TF_CONFIG.*host1"):
        make_strategy("multiworker")
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ValueError, match=r"TF_CONFIG is \{\}, expected a `cluster` and a `task`"):
        make_strategy("multiworker")
