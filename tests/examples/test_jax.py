"""The core gives the same numbers on JAX, without TensorFlow, as on TensorFlow."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from test_golden import golden_config, group

from sit_keras.augment import pretext
from sit_keras.config.serialization import to_dict
from sit_keras.config.settings import CorruptionConfig, RunConfig
from sit_keras.convert import weight_names
from sit_keras.models.loading import load_encoder
from sit_keras.models.optimizers import build_optimizer
from sit_keras.runs.log import read_log
from sit_keras.training.pretrainer import SiTPretrainer

BATCH = 4
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
def case(golden_sit, tmp_path_factory):
    """The authors' weights, images, and everything that is drawn; and what a step on JAX makes."""
    folder, random = tmp_path_factory.mktemp("backends"), np.random.default_rng(0)
    config = RunConfig(
        model=dataclasses.replace(golden_config(golden_sit), drop_path_rate=0.0),
        corruption=CorruptionConfig(colour=True),
        batch_size=BATCH,
        epochs=3,
        warmup_epochs=0,
        learning_rate=0.01,
        clip_norm=0.5,
        holdout=0.0,
    )

    def uniform(*shape):
        return random.uniform(size=shape).astype("float32")

    samples, size = 2 * BATCH, config.model.square_size
    inputs = {
        "images": random.integers(0, 256, (BATCH, 40, 52, 3), dtype=np.uint8),
        "crop": uniform(BATCH, 2, pretext.CROP_NUMBERS),
        "look": uniform(samples, pretext.LOOK_NUMBERS),
        "corruption": uniform(samples, pretext.CORRUPTION_NUMBERS),
        "noise": random.normal(size=(samples, size, size, 3)).astype("float32"),
        **{f"state/{name}": value for name, value in group(golden_sit, "state/").items()},
    }
    source, target = folder / "inputs.npz", folder / "outputs.npz"
    np.savez(source, config=json.dumps(to_dict(config)), **inputs)
    run(ROOT / "tests" / "jax_case.py", source, target, backend="jax")
    with np.load(target) as file:
        return config, inputs, dict(file)


@pytest.fixture(scope="module")
def views(case):
    """The views that TensorFlow makes of the same draws."""
    config, inputs, _ = case
    crops = pretext.crop(
        inputs["images"] / np.float32(255), inputs["crop"], config.model.square_size, config.views
    )
    crops = tf.reshape(crops, (-1, *crops.shape[2:]))
    clean, rotation = pretext.look(crops, inputs["look"], config.views)
    drawn = inputs["corruption"], inputs["noise"]
    corrupted = pretext.corrupt(clean, *drawn, config.corruption)
    return {"clean": clean, "corrupted": corrupted, "rotation": rotation}


@pytest.fixture
def pretrainer(case):
    """The pre-trainer of TensorFlow with the same weights, and what it learns in their order."""
    config, inputs, _ = case
    model = SiTPretrainer(config.model, clip_norm=config.clip_norm)
    state = {k.removeprefix("state/"): v for k, v in inputs.items() if k.startswith("state/")}
    weight_names.load_state(model.network, state)
    variables = model.network.trainable_variables + model.weighting.trainable_variables
    model.compile(build_optimizer(variables, config, steps_per_epoch=1))
    return model, variables


def batch_of(views):
    return {name: tf.reshape(value, (BATCH, 2, *value.shape[1:])) for name, value in views.items()}


def test_views(case, views):
    for name, value in views.items():
        np.testing.assert_allclose(value, case[2][f"view/{name}"], atol=1e-5, err_msg=name)


def test_losses_and_gradients(case, views, pretrainer):
    model, variables = pretrainer
    with tf.GradientTape() as tape:
        losses, accuracies = model.task_losses(batch_of(views), training=True)
        total = model.weighting(losses)
    for name, value in {"loss": total, **losses, **accuracies}.items():
        np.testing.assert_allclose(value, case[2][f"loss/{name}"], rtol=1e-5, err_msg=name)
    gradients = tape.gradient(total, [variable.value for variable in variables])
    for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        theirs = case[2][f"gradient/{i}"]
        np.testing.assert_allclose(gradient, theirs, rtol=1e-5, atol=1e-5, err_msg=variable.path)


def test_a_step_moves_the_weights_alike(case, views, pretrainer):
    """Clipping, AdamW, its decay and who is left out of it."""
    model, variables = pretrainer
    before = [variable.numpy() for variable in variables]
    model.fit(tf.data.Dataset.from_tensors(batch_of(views)), verbose=0, shuffle=False)
    for i, (variable, old) in enumerate(zip(variables, before, strict=True)):
        # The first step of Adam is the sign of a gradient, which means nothing where that is tiny.
        clear = np.abs(case[2][f"gradient/{i}"]) > 1e-5
        moved, theirs = (np.where(clear, x - old, 0) for x in (variable, case[2][f"stepped/{i}"]))
        np.testing.assert_allclose(moved, theirs, atol=1e-6, err_msg=variable.path)
    assert max(np.abs(v.numpy() - old).max() for v, old in zip(variables, before, strict=True)) > 0


def test_what_the_loop_draws_and_skips(case):
    found = case[2]
    assert found["drawn_again"] and found["drawn_anew"]
    assert found["poison_kept_out"] and found["skipped"].tolist() == [False, True]


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
    "--preset=digits",
    "--set=epochs=5", "--set=warmup_epochs=1", "--set=steps_per_epoch=4", "--set=batch_size=32",
    "--set=clip_norm=1.0", "--set=model.num_layers=1",
)  # fmt: skip


def test_the_jax_loop_trains_an_encoder_for_tensorflow(tmp_path, random):
    whole, parts, packed = (tmp_path / name for name in ("whole", "parts", "packed"))
    run(ROOT / "benchmarks" / "pack_images.py", "digits", packed, backend="tensorflow")
    common = (*SHORT, f"--images={packed}")
    script = ROOT / "benchmarks" / "jax_pretrain.py"
    arguments = (*common, "--steps_per_call=4", f"--output={whole}")
    run("-c", WITHOUT_TENSORFLOW, script, *arguments, backend="jax")
    for minutes in (0, 9):  # cut off within an epoch, and gone on with
        arguments = (*common, "--steps_per_call=2", f"--output={parts}", f"--max_minutes={minutes}")
        said = run("-c", WITHOUT_TENSORFLOW, script, *arguments, backend="jax")
    assert "from step 2." in said
    logs = [read_log(folder / "log.csv") for folder in (whole, parts)]
    assert logs[0]["loss"][-1] < logs[0]["loss"][0] - 0.3
    for name in logs[0].keys() - {"views_per_second"}:
        # The first line of the one that was cut off is the mean of what came after.
        np.testing.assert_allclose(logs[0][name][1:], logs[1][name][1:], rtol=1e-4, err_msg=name)
    weights = [pieces.read(folder / "weights") for folder in (whole, parts)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=1e-5, err_msg=name)

    arguments = (*common, "--set=seed=1", f"--output={parts}")
    with pytest.raises(AssertionError, match="seed: 0 -> 1"):
        run("-c", WITHOUT_TENSORFLOW, script, *arguments, backend="jax")

    pieces.main([str(whole)])
    images = random.normal(size=(3, 16, 16, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    code = "import sys; sys.modules['tensorflow'] = None\n" + ENCODE
    run("-c", code, whole, tmp_path / "tokens.npz", tmp_path / "images.npy", backend="jax")
    tokens = load_encoder(whole)(images)
    with np.load(tmp_path / "tokens.npz") as jax_tokens:
        for name, value in tokens.items():
            np.testing.assert_allclose(value, jax_tokens[name], rtol=1e-5, atol=1e-5)
