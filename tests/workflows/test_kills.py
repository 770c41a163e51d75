"""Whatever takes long is killed at random moments, and ends as if it had not been.

By kill -9, every other time while a file is being written. KILLS=1 kills each once, and
`pytest -s` prints the moments.
"""

import json
import os
import random as chance
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest
from conftest import ROOT

from sit_keras.config.files import UNFINISHED
from sit_keras.serving.export import verify_export

KILLS = int(os.environ.get("KILLS", "10"))
SETTINGS = """
import numpy as np
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.presets import run_config
from sit_keras.config.serialization import changed
from sit_keras.data.sources import load_source
from sit_keras.evaluation.finetune import finetune
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.seeding import seeded
from sit_keras.serving.export import export
from sit_keras.workflows.pretrain import pretrain
from sit_keras.workflows.tables import make_table
from sit_keras.workflows.tune import tune

SHORT = {
    "model.image_size": 8, "model.patch_size": 4, "model.hidden_dim": 16, "model.num_layers": 2,
    "model.num_heads": 2, "model.mlp_dim": 16, "model.projection_dim": 8,
    "model.drop_path_rate": 0.2, "epochs": 3, "warmup_epochs": 1, "steps_per_epoch": 4,
    "sheet_every": 2,
}
config = changed(run_config("digits"), SHORT)
print("begun", flush=True)
"""
WORK = {
    "train": 'pretrain(changed(config, {"epochs": 12}), "run")',
    "finetune": """
with seeded(0):
    encoder = SiTBackbone(**config.model.backbone_arguments())
source = load_source("digits")
settings = FinetuneConfig(epochs=12, batch_size=50, warmup_epochs=1, drop_path_rate=0.2)
finetune(encoder, source.train.subset(300, 0), source.test, settings, "finetune")
""",
    "table": """
training = {"epochs": 3, "warmup_epochs": 1, "batch_size": 128}
make_table("finetune", ["digits"], "digits", pretraining=SHORT, training=training)
""",
    "tune": 'tune(changed(config, {"epochs": 2}), "tuning", trials=2, parameters=["temperature"])',
    "export": """
import pathlib
if not pathlib.Path("run/results.json").exists():
    pretrain(changed(config, {"epochs": 1}), "run")
print("begun", flush=True)
export("run", "exports/run")
""",
}
# What a clock or a library writes. TensorBoard's files are named after the hour.
WITHOUT = {"train_seconds", "versions"}

pytestmark = pytest.mark.endurance


def start(folder, work):
    """Starts the work in a folder, and returns the process when its imports are done."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", SETTINGS + work],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=(folder / "printed").open("w"),
        stderr=subprocess.STDOUT,
    )
    markers = work.count("begun") + 1
    while process.poll() is None and (folder / "printed").read_text().count("begun") < markers:
        time.sleep(0.02)
    return process


def finish(process, folder):
    assert process.wait(300) == 0, (folder / "printed").read_text()[-3000:]


def wait_for_a_file_that_is_being_written(folder, process):
    """Waits until a file is half written; the process began by removing older halves."""
    while process.poll() is None and not any(folder.rglob(f"{UNFINISHED}*")):
        pass


def plain(value):
    """A value of JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in WITHOUT}
    return [plain(each) for each in value] if isinstance(value, list) else value


def arrays(path):
    """The weights in a `.keras` file by their names."""
    found = {}
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
        with h5py.File(member) as weights:
            weights.visititems(
                lambda name, each: (
                    found.update({name: each[()]}) if isinstance(each, h5py.Dataset) else None
                )
            )
    return found


def assert_same(folder, whole):
    """Every encoder, log, result and served weight is that of the work that was not killed."""
    compared = 0
    for path in sorted(whole.rglob("*")):
        name = path.relative_to(whole)
        if path.suffix == ".keras":
            np.testing.assert_equal(arrays(folder / name), arrays(path), err_msg=str(name))
        elif path.name in ("results.json", "settings.json", "labels.json", "table.json"):
            ours, theirs = (json.loads(each.read_text()) for each in (folder / name, path))
            assert plain(ours) == plain(theirs), name
        elif path.name in ("log.csv", "table.csv"):
            assert (folder / name).read_text() == path.read_text(), name
        elif path.name == "variables.data-00000-of-00001":
            assert (folder / name).read_bytes() == path.read_bytes(), name
        else:
            continue
        compared += 1
    assert compared
    half = [path for path in folder.rglob("*") if "writing" in path.name or "temp" in path.name]
    assert half == []
    for version in folder.glob("exports/run/[0-9]*"):
        verify_export(version)


@pytest.mark.parametrize("name", WORK)
def test_what_is_killed_again_and_again_ends_as_what_was_not(tmp_path, name):
    work, moments, killed = WORK[name], chance.Random(name), []
    whole = tmp_path / "whole"
    process = start(whole, work)
    begin = time.monotonic()
    finish(process, whole)
    seconds = time.monotonic() - begin
    folders = [tmp_path / "killed-1"]
    while len(killed) < KILLS:
        process = start(folders[-1], work)
        begin = time.monotonic()
        moment = moments.uniform(0, 0.9 * seconds)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            if len(killed) % 2:
                wait_for_a_file_that_is_being_written(folders[-1], process)
            process.kill()
            process.wait()
            killed.append(f"{time.monotonic() - begin:.2f}")
        else:  # what earlier attempts had left to do took less time
            finish(process, folders[-1])
            folders.append(tmp_path / f"killed-{len(folders) + 1}")
    finish(start(folders[-1], work), folders[-1])
    print(f"\n{name}: {seconds:.1f} s, killed after {', '.join(killed)} s; {len(folders)} ended")
    for folder in folders:
        assert_same(folder, whole)
