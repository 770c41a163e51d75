"""Runs that are killed again and again, and runs of many steps."""

import os
import random as chance
import subprocess
import sys
import time

import pytest

from sit_keras.config.files import UNFINISHED
from sit_keras.models.backbone import SiTBackbone

RUN = """
import sys
from sit_keras import pretrain, run_config
sizes = dict(
    image_size=8, patch_size=4, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=16,
    drop_path_rate=0.2, projection_dim=8,
)
config = run_config(
    "digits", sizes, epochs=20, batch_size=64, steps_per_epoch=4, warmup_epochs=1, sheet_every=2,
)
pretrain(config, sys.argv[1])
"""
KILLS = 2

pytestmark = pytest.mark.slow


def start(run_dir):
    command = [sys.executable, "-c", RUN, run_dir]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def a_moment_of_saving(run_dir):
    """Waits until a checkpoint is half written; the process began by removing older halves."""
    while not any(UNFINISHED in path.name for path in (run_dir / "checkpoints").iterdir()):
        pass


def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path):
    """By kill -9 at random moments, every other one within a save; equal to the bit."""
    with start(tmp_path / "whole") as whole:
        assert whole.wait(300) == 0, whole.stderr.read()[-3000:]
    moments = chance.Random(0)
    for kill in range(KILLS):
        with start(tmp_path / "killed") as process:
            epochs = (line for line in process.stdout if line.startswith("epoch"))
            for _ in range(moments.randint(1, 3)):
                reached = next(epochs)
            time.sleep(moments.uniform(0, 0.4))
            if kill % 2:
                a_moment_of_saving(tmp_path / "killed")
            process.kill()
    assert not reached.startswith("epoch 20/")
    with start(tmp_path / "killed") as process:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    assert "Going on from step" in output and "epoch 20/20" in output
    assert not list((tmp_path / "killed" / "checkpoints").glob(f"{UNFINISHED}*"))
    whole, killed = (
        SiTBackbone.from_preset(tmp_path / name).get_weights() for name in ("whole", "killed")
    )
    assert all((a == b).all() for a, b in zip(whole, killed, strict=True))
    logs = [(tmp_path / name / "log.csv").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]  # each epoch once, and every number the same


SOAK = """
import os, sys
from sit_keras import pretrain, run_config
from sit_keras.training import guards
sizes = dict(hidden_dim=32, num_layers=2, num_heads=2, mlp_dim=64)
config = run_config(
    "native32", sizes, dataset="folder:" + sys.argv[1], epochs=int(sys.argv[3]), batch_size=8,
    steps_per_epoch=50, warmup_epochs=1, holdout=0.1, sheet_every=2,
)
count = guards.Position.on_train_batch_end
def count_and_weigh(self, batch, logs=None):
    count(self, batch, logs)
    if self.step in (200, 50 * int(sys.argv[3])):
        pages = int(open("/proc/self/statm").read().split()[1])
        print("resident", pages * os.sysconf("SC_PAGESIZE") / 2**20, flush=True)
guards.Position.on_train_batch_end = count_and_weigh
pretrain(config, sys.argv[2])
"""


# Of 50 steps each. Forty were measured once; SOAK_EPOCHS=40 does so again.
SOAK_EPOCHS = os.environ.get("SOAK_EPOCHS", "12")


def test_the_memory_of_a_long_run_does_not_grow(real_images, tmp_path):
    command = [
        sys.executable,
        "-c",
        SOAK,
        real_images / "tiny-imagenet-200" / "train",
        tmp_path / "run",
        SOAK_EPOCHS,
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [line for line in result.stdout.splitlines() if line.startswith("resident")]
    early, late = (float(line.split()[1]) for line in lines)
    print(lines)
    assert late < 1.02 * early
