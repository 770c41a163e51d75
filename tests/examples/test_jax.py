"""The network, the views and a step give the same numbers on JAX, without TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from sit_keras.augment.random import normal, random_bits, uniform
from sit_keras.config.network import NetworkConfig
from sit_keras.config.serialization import to_dict
from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.optimizers import build_optimizer
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.runs.folder import read_settings
from sit_keras.runs.log import read_log
from sit_keras.runs.results import finished_results
from sit_keras.training.pretrainer import SiTPretrainer
from sit_keras.workflows.evaluate import evaluate

EXAMPLES = ROOT / "examples" / "jax"
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="JAX is not installed: pip install -r requirements-jax.txt",
)
pytestmark = [pytest.mark.slow, needs_jax]

BATCH = 10  # more than one group of eight donors, and an incomplete one
PLACES = ((0, 0), (2**31 - 1, 24))  # (step, position of the first image)
CONFIG = RunConfig(
    model=NetworkConfig(24, 6, 32, 2, 4, 64, drop_path_rate=0.0, projection_dim=16),
    views=ViewConfig(
        jitter_probability=0.8, hue=0.1, greyscale_probability=0.2, solarize_probability=0.2
    ),
    corruption=CorruptionConfig(colour=True, align=6),
    batch_size=BATCH,
    epochs=3,
    warmup_epochs=0,
    learning_rate=0.5,
    weight_decay=0.5,
    clip_norm=0.5,
    holdout=0.0,
    seed=2**32 - 2,
)


def run(*arguments):
    """Runs Python with the JAX backend on the CPU, and returns what it prints."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    result = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def inputs():
    """Images as smooth as photographs, and weights none of which is zero."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (BATCH, 5, 7, 3), dtype=np.uint8)
    backbone = SiTBackbone(**CONFIG.model.backbone_arguments())
    network = SiTPretrainer(backbone, projection_dim=CONFIG.model.projection_dim).network
    return {
        "images": np.repeat(np.repeat(blocks, 8, axis=1), 8, axis=2)[:, :, :52],
        "positions": random.integers(0, 2**31, 6, dtype=np.int32),
        "step": np.int32(2**31 - 1),
        "places": np.array(PLACES, np.int32),
        **{
            f"weight/{weight.path}": weight.numpy() + random.normal(0, 0.1, weight.shape)
            for weight in network.weights
        },
    }


@pytest.fixture(scope="module")
def on_jax(inputs, tmp_path_factory):
    """What jax_case.py makes of them."""
    folder = tmp_path_factory.mktemp("backends")
    np.savez(folder / "inputs.npz", config=json.dumps(to_dict(CONFIG)), **inputs)
    run(ROOT / "tests" / "jax_case.py", folder / "inputs.npz", folder / "outputs.npz")
    with np.load(folder / "outputs.npz") as file:
        return dict(file)


@pytest.fixture
def pretrainer(inputs):
    """TensorFlow's pre-trainer with the same weights, compiled."""
    backbone = SiTBackbone(**CONFIG.model.backbone_arguments(), preprocessing=CONFIG.preprocessing)
    model = SiTPretrainer(
        backbone, projection_dim=CONFIG.model.projection_dim, views=CONFIG.views,
        corruption=CONFIG.corruption, clip_norm=CONFIG.clip_norm, seed=CONFIG.seed,
    )  # fmt: skip
    for weight in model.network.weights:
        weight.assign(inputs[f"weight/{weight.path}"])
    model.compile(build_optimizer(CONFIG, steps_per_epoch=1))
    return model


def variables_of(model):
    """The trained variables in the order of `Pretraining.variables`."""
    return model.network.trainable_variables + model.weighting.trainable_variables


def test_random_numbers_are_equal_to_the_bit(inputs, on_jax):
    bits = random_bits(CONFIG.seed, tf.constant(inputs["step"]), 2, inputs["positions"], 5)
    for name, value in {"bits": bits, "uniform": uniform(bits), "normal": normal(bits)}.items():
        np.testing.assert_array_equal(value, on_jax[f"drawn/{name}"], err_msg=name)


def test_views_of_a_seed_step_and_position_are_those_of_tensorflow(inputs, on_jax, pretrainer):
    for step, first in PLACES:
        views = pretrainer.two_views(inputs["images"], step, first)
        theirs = {name: on_jax[f"views/{step}/{first}/{name}"] for name in views}
        np.testing.assert_array_equal(views["rotation"], theirs["rotation"])
        for name in ("clean", "corrupted"):
            # In pixels from 0 to 1, as they were before they were divided by the deviation.
            ours, other = (x * CONFIG.preprocessing.std for x in (views[name], theirs[name]))
            np.testing.assert_allclose(ours, other, rtol=0, atol=1e-5, err_msg=name)
    assert np.abs(on_jax["views/0/0/clean"] - theirs["clean"]).mean() > 0.1


def test_losses_and_gradients_are_those_of_tensorflow(inputs, on_jax, pretrainer):
    variables = variables_of(pretrainer)
    views = pretrainer.make_views(inputs["images"], tf.constant(0, tf.int64))
    with tf.GradientTape() as tape:
        losses, accuracies = pretrainer.objective.losses(views, training=True)
        total = pretrainer.weighting(losses)
    for name, value in {"loss": total, **losses, **accuracies}.items():
        np.testing.assert_allclose(value, on_jax[f"loss/{name}"], rtol=1e-5, err_msg=name)
    gradients = tape.gradient(total, [variable.value for variable in variables])
    for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        theirs = on_jax[f"gradient/{i}"]
        np.testing.assert_allclose(gradient, theirs, rtol=1e-4, atol=1e-5, err_msg=variable.path)


def test_a_step_on_images_changes_the_weights_as_fit_does(inputs, on_jax, pretrainer):
    """Clipping, AdamW, its decay, and the variables that do not decay."""
    variables = variables_of(pretrainer)
    before = [variable.numpy() for variable in variables]
    pretrainer.fit(inputs["images"], batch_size=BATCH, verbose=0, shuffle=False)
    for i, (variable, old) in enumerate(zip(variables, before, strict=True)):
        # Adam's first step is the sign of a gradient, which means nothing where that is tiny.
        clear = np.abs(on_jax[f"gradient/{i}"]) > 1e-4
        assert clear.any(), variable.path
        moved, theirs = (np.where(clear, x - old, 0) for x in (variable, on_jax[f"stepped/{i}"]))
        np.testing.assert_allclose(moved, theirs, atol=1e-6, err_msg=variable.path)


def test_a_step_whose_gradient_is_not_finite_is_skipped(on_jax):
    assert on_jax["bad_step_changes_nothing"]
    assert on_jax["skipped"].tolist() == [False, True]


WITHOUT_TENSORFLOW = "import runpy, sys; sys.modules['tensorflow'] = None\n"
SCRIPT = """
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, script.rpartition("/")[0])
runpy.run_path(script, run_name="__main__")
"""
IMPORTS = """
import importlib, pkgutil
import sit_keras
for name in ("config", "models", "augment"):
    package = importlib.import_module(f"sit_keras.{name}")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
print(sit_keras.SiTBackbone, sit_keras.TwoViews, sit_keras.SiTImageClassifier)
"""
ENCODE = """
import numpy as np
import sit_keras
run, preset, images, tokens = sys.argv[1:]
encoder = sit_keras.SiTBackbone.from_preset(run)
encoder.save_to_preset(preset)
again = sit_keras.SiTBackbone.from_preset(preset, image_shape=(24, 20, 3))
pixels = sit_keras.ImagePreprocessing.of(again)(np.load(images))
np.savez(tokens, **again(pixels))
"""


def test_the_core_imports_without_tensorflow():
    assert "SiTBackbone" in run("-c", WITHOUT_TENSORFLOW + IMPORTS)


def jax_pretrain(packed, folder, *flags):
    settings = {
        "epochs": 5, "warmup_epochs": 1, "steps_per_epoch": 4, "batch_size": 32, "clip_norm": 1.0,
        "model.num_layers": 2, "model.drop_path_rate": 0.5,
    }  # fmt: skip
    return run(
        "-c", WITHOUT_TENSORFLOW + SCRIPT, EXAMPLES / "jax_pretrain.py", f"--images={packed}",
        f"--run_dir={folder}", "--steps_per_call=2",
        *(f"--set={name}={value}" for name, value in settings.items()), *flags,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on the digits: the packed images and the run folder."""
    folder = tmp_path_factory.mktemp("run")
    packed = folder / "packed" / "digits.npz"
    script = EXAMPLES / "pack_images.py"
    run("-c", WITHOUT_TENSORFLOW + SCRIPT, script, "digits", f"--output={packed}")
    printed = jax_pretrain(packed, folder / "whole")
    assert "evaluate.py" in printed
    return packed, folder / "whole"


def last_state(folder):
    with np.load(max((folder / "states").iterdir())) as file:
        return dict(file)


def test_a_run_that_was_stopped_goes_on_to_the_last_bit(finished, tmp_path):
    packed, whole = finished
    printed = jax_pretrain(packed, tmp_path, "--max_minutes=0")
    assert "Stopped after 2 steps" in printed and not (tmp_path / "network.keras").exists()
    assert "from step 2." in jax_pretrain(packed, tmp_path)
    states = [last_state(folder) for folder in (whole, tmp_path)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)
    logs = [read_log(folder / "log.csv") for folder in (whole, tmp_path)]
    for name in logs[0].keys() - {"views_per_second"}:
        # The line of the epoch that was stopped is the mean of the steps after it.
        np.testing.assert_array_equal(logs[0][name][1:], logs[1][name][1:], err_msg=name)
    assert len(list((tmp_path / "states").iterdir())) <= 2


def test_measuring_prints_the_speed_and_writes_nothing(finished):
    packed, whole = finished
    printed = jax_pretrain(packed, whole / "none", "--measure")
    assert "views/s" in printed and "TFLOP/s" in printed
    assert not (whole / "none").exists()


def test_a_finished_run_stays_as_it_is(finished):
    packed, whole = finished
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*.keras")}
    assert "finished already" in jax_pretrain(packed, whole)
    assert before == {path: path.stat().st_mtime_ns for path in whole.glob("*.keras")}


def test_a_run_of_other_settings_is_refused(finished):
    with pytest.raises(AssertionError, match="other settings.*seed: 0 -> 1"):
        jax_pretrain(*finished, "--set=seed=1")


def test_the_run_folder_has_the_form_of_train_py(finished):
    _, whole = finished
    config, log = read_settings(whole), read_log(whole / "log.csv")
    assert config.dataset == "digits" and config.model.num_layers == 2
    assert log["loss"][-1] < log["loss"][0] - 0.3
    assert len(log["epoch"]) == 5 and log["alpha_rotation"][-1] != log["alpha_rotation"][0]
    results = finished_results(whole)
    assert results["steps"] == 20
    assert results["losses"]["loss"] == pytest.approx(log["loss"][-1])


def test_the_encoder_and_the_network_load_under_tensorflow(finished, tmp_path, random):
    _, whole = finished
    images = random.integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    paths = (whole, tmp_path / "preset", tmp_path / "images.npy", tmp_path / "tokens.npz")
    run("-c", WITHOUT_TENSORFLOW + ENCODE, *paths)
    with np.load(tmp_path / "tokens.npz") as file:
        on_jax = dict(file)
    network = keras.saving.load_model(whole / "network.keras")
    sources = (whole, tmp_path / "preset")
    encoders = [SiTBackbone.from_preset(path, image_shape=(24, 20, 3)) for path in sources]
    trained = network.get_layer("sit_backbone").get_layer("norm").gamma
    np.testing.assert_array_equal(trained, encoders[0].get_layer("norm").gamma)
    for encoder in encoders:
        pixels = ImagePreprocessing.of(encoder)(images)
        for name, value in encoder(pixels).items():
            np.testing.assert_allclose(value, on_jax[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_the_encoder_is_evaluated_under_tensorflow(finished, tmp_path):
    results = evaluate(run=finished[1], protocol=("knn",), k=(20,), output=tmp_path)
    assert results["pretrained_on"] == "digits"
    assert results["knn"]["20"] > 0.2  # chance is 0.1
