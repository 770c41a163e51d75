"""The core gives the same numbers on JAX, without TensorFlow, as on TensorFlow."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_golden import golden_config, group

from sit_keras import load_encoder, pieces, pretext_views
from sit_keras.run_folder import read_log

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="JAX is not installed: pip install -r requirements-jax.txt",
)
pytestmark = [pytest.mark.slow, needs_jax]


def run(*arguments, backend):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def results(golden_sit, tmp_path_factory):
    """What a step computes on each backend, from the authors' weights and the same draws."""
    folder = tmp_path_factory.mktemp("backends")
    random, config = np.random.default_rng(0), golden_config(golden_sit)
    batch, size = 4, config.square_size

    def uniform(*shape):
        return random.uniform(size=shape).astype("float32")

    views = 2 * batch
    inputs = {
        "images": uniform(batch, 40, 52, 3),
        "crop": uniform(batch, 2, pretext_views.CROP_NUMBERS),
        "look": uniform(views, pretext_views.LOOK_NUMBERS),
        "corruption": uniform(views, pretext_views.CORRUPTION_NUMBERS),
        "noise": random.normal(size=(views, size, size, 3)).astype("float32"),
        "config": json.dumps(dataclasses.asdict(config)),
        **{f"state/{name}": value for name, value in group(golden_sit, "state/").items()},
    }
    np.savez(folder / "inputs.npz", **inputs)
    found = {}
    for backend in ("jax", "tensorflow"):
        target = folder / f"{backend}.npz"
        run(ROOT / "tests" / "backend_case.py", folder / "inputs.npz", target, backend=backend)
        with np.load(target) as file:
            found[backend] = dict(file)
    assert found["jax"].keys() == found["tensorflow"].keys()
    return found


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("view", 1e-5), ("output", 1e-5), ("loss", 1e-6), ("gradient", 1e-5)]
)
def test_a_step_is_the_same(results, kind, tolerance):
    names = [name for name in results["jax"] if name.startswith(f"{kind}/")]
    assert len(names) >= 3
    for name in names:
        ours, theirs = results["jax"][name], results["tensorflow"][name]
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)
    if kind == "gradient":
        assert any(np.abs(results["jax"][name]).max() > 1e-3 for name in names)


WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = None
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, script.rpartition("/")[0])
runpy.run_path(script, run_name="__main__")
"""
ENCODE = """
import numpy as np
from sit_keras import pieces
encoder = pieces.load_network(sys.argv[1]).get_layer("sit_encoder")
np.savez(sys.argv[2], **encoder(np.load(sys.argv[3])))
"""
SHORT = (
    "--set=epochs=5", "--set=warmup_epochs=1", "--set=steps_per_epoch=4", "--set=batch_size=32",
    "--set=clip_norm=1.0", "--set=model.num_layers=1",
)  # fmt: skip


def test_the_jax_loop_trains_an_encoder_for_tensorflow(tmp_path, random):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    script = ROOT / "benchmarks" / "jax_pretrain.py"
    run(
        "-c",
        WITHOUT_TENSORFLOW,
        script,
        *SHORT,
        "--steps_per_call=4",
        f"--output={whole}",
        backend="jax",
    )
    for minutes in (0, 9):  # cut off after an epoch, and gone on with
        arguments = (*SHORT, "--steps_per_call=2", f"--output={parts}", f"--max_minutes={minutes}")
        said = run("-c", WITHOUT_TENSORFLOW, script, *arguments, backend="jax")
    assert "from step 4." in said
    logs = [read_log(folder / "log.csv") for folder in (whole, parts)]
    assert logs[0]["loss"][-1] < logs[0]["loss"][0] - 0.3
    for name in logs[0].keys() - {"views_per_second"}:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-4, err_msg=name)
    weights = [pieces.read(folder / "weights") for folder in (whole, parts)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=1e-5, err_msg=name)

    pieces.main([str(whole)])
    images = random.normal(size=(3, 16, 16, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    code = "import sys; sys.modules['tensorflow'] = None\n" + ENCODE
    run("-c", code, whole, tmp_path / "tokens.npz", tmp_path / "images.npy", backend="jax")
    tokens = load_encoder(whole)(images)
    with np.load(tmp_path / "tokens.npz") as jax_tokens:
        for name, value in tokens.items():
            np.testing.assert_allclose(value, jax_tokens[name], rtol=1e-5, atol=1e-5)
