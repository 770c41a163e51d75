"""What a run logs does not depend on the devices that it uses, nor on micro-batches."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from run_case import TINY

from sit_keras.runs.log import read_log

SCRIPT = pathlib.Path(__file__).parents[1] / "device_runs.py"


@pytest.mark.slow
def test_a_run_continued_on_other_devices_logs_what_one_device_does(tmp_path):
    """Validation losses on 20 images and gradient shares among them; see `device_runs.py`."""
    process = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    assert "Going on from step 4" in process.stdout
    one, changing = (read_log(tmp_path / name / "log.csv") for name in ("one", "changing"))
    assert list(one["epoch"]) == list(changing["epoch"]) == [0, 1]
    names = {f"val_{task}" for task in ("loss", *TINY.tasks)}
    assert names | {f"share_{task}" for task in TINY.tasks} <= set(one) == set(changing)
    for name in one:  # training itself rounds otherwise
        np.testing.assert_allclose(changing[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)
