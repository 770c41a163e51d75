"""A whole run of a network with options: stopped, continued, exported."""

import dataclasses
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from run_case import TINY, same_weights

from sit_keras.config.serialization import changed
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import ProjectionHead
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.saved import load_network
from sit_keras.runs.folder import read_settings
from sit_keras.serving.export import export
from sit_keras.training import guards
from sit_keras.workflows.messages import describe
from sit_keras.workflows.pretrain import pretrain

CONFIG = changed(
    TINY,
    {"model.stem": "conv", "model.projection_layers": "3", "model.projection_norm": "layer"},
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "options"
    pretrain(CONFIG, folder)
    return folder


def test_the_options_are_told_before_a_run_and_count():
    told, plain = describe(CONFIG), describe(TINY)
    # Two convolutions, their norms and a layer, in place of the layer of patches.
    stem = 9 * 3 * 8 + 2 * 8 + 9 * 8 * 16 + 2 * 16 + 16 * 16 + 16
    patches = 4 * 4 * 3 * 16 + 16
    assert told["encoder_parameters"] - plain["encoder_parameters"] == stem - patches
    head = 2 * (16 * 16 + 16 + 2 * 16) + 16 * 8 + 8
    assert told["parameters"] - plain["parameters"] == stem - patches + head - (16 * 8 + 8)


@pytest.mark.slow
def test_the_options_reach_the_files_of_a_run(run_dir):
    assert read_settings(run_dir) == CONFIG
    assert SiTBackbone.from_preset(run_dir).stem == "conv"
    network = load_network(run_dir / "network.keras")
    assert isinstance(network.get_layer("projection_head"), ProjectionHead)
    assert network.count_params() == CONFIG.model.num_parameters
    assert "patches of 4 px by convolutions" in (run_dir / "model_card.md").read_text()


@pytest.mark.slow
def test_a_stopped_run_ends_in_the_same_weights(run_dir, tmp_path, monkeypatch):
    count = guards.Position.on_train_batch_end

    def count_and_stop(self, batch, logs=None):
        count(self, batch, logs)
        if self.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(guards.Position, "on_train_batch_end", count_and_stop)
        with pytest.raises(guards.Stopped):
            pretrain(CONFIG, tmp_path)
    pretrain(CONFIG, tmp_path)
    assert same_weights(run_dir, tmp_path)


@pytest.mark.slow
def test_another_head_is_another_run(run_dir):
    other = dataclasses.replace(CONFIG.model, projection_norm="none")
    with pytest.raises(ValueError, match="model.projection_norm: layer -> none"):
        pretrain(dataclasses.replace(CONFIG, model=other), run_dir)


@pytest.mark.slow
def test_a_run_starts_from_an_encoder_of_the_same_stem_alone(run_dir, tmp_path):
    start = changed(CONFIG, {"initial_encoder": str(run_dir), "model.image_size": 16, "epochs": 1})
    pretrain(start, tmp_path / "larger")
    plain = changed(start, {"model.stem": "patch"})
    with pytest.raises(ValueError, match="does not fit this run: .*stem: conv -> patch"):
        pretrain(plain, tmp_path / "plain")


@pytest.mark.slow
def test_an_export_gives_the_tokens_of_the_encoder(run_dir, tmp_path, random):
    version = export(run_dir, tmp_path)
    images = random.uniform(size=(2, 8, 8, 3)).astype("float32")
    answers = tf.saved_model.load(str(version)).signatures["serving_default"](tf.constant(images))
    encoder = SiTBackbone.from_preset(run_dir)
    tokens = encoder(ImagePreprocessing.of(encoder)(255 * images))
    np.testing.assert_allclose(answers["rotation_token"], tokens["rotation_token"], atol=1e-5)
