"""The memory of a run of many steps."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.endurance

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

SOAK_EPOCHS = os.environ.get("SOAK_EPOCHS", "40")  # of 50 steps each


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
