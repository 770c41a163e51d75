"""Images of a data set stay on the CPU, whose pipelines read them."""

import json
import pathlib
import subprocess
import sys


def test_no_pipeline_puts_its_images_where_the_network_runs():
    script = pathlib.Path(__file__).parent / "placed_images.py"
    process = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200)
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout)
    assert found.pop("nothing of ours") == ["1"]  # where TensorFlow puts them
    assert len(found) == 7 and set(map(tuple, found.values())) == {("0",)}, found
