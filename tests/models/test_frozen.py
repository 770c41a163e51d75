"""What was frozen is frozen again in a model that is loaded or cloned, and in no preset."""

import json
import zipfile

import keras
import numpy as np
import pytest

from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.loading import copy_resized
from sit_keras.models.saved import load_classifier, load_network, load_saved
from sit_keras.training.pretrainer import SiTPretrainer


def build_backbone(**changes):
    return SiTBackbone((8, 8, 3), 4, 8, 2, 2, 12, drop_path_rate=0.0, **changes)


def build_classifier(hidden_dim=None):
    return SiTImageClassifier(build_backbone(), 3, hidden_dim)


def build_pretrainer():
    return SiTPretrainer(build_backbone(), projection_dim=4, tasks=("rotation", "reconstruction"))


def freeze(part):
    part.trainable = False


def freeze_all_but_the_last_block(model):
    model.backbone.trainable = False
    model.backbone.get_layer("block_1").trainable = True


FREEZE = {
    "the backbone": lambda m: freeze(m.backbone),
    "a block": lambda m: freeze(m.backbone.get_layer("block_0")),
    "all but the last block": freeze_all_but_the_last_block,
    "a layer in a block": lambda m: freeze(m.backbone.get_layer("block_1").attention),
    "the positions alone": lambda m: freeze(m.backbone.get_layer("prefix_tokens").positions),
    "the model": freeze,
}
IN_A_CLASSIFIER = {
    "the heads": lambda m: freeze(m.head),
    "a head": lambda m: freeze(m.head.heads["rotation_token"]),
    "a layer of a head": lambda m: freeze(m.head.heads["rotation_token"].get_layer("hidden")),
}
IN_A_PRETRAINER = {
    "the weighting": lambda m: freeze(m.weighting),
    "a head": lambda m: freeze(m.network.get_layer("rotation_head")),
}


def trained(model):
    return [weight.path for weight in model.trainable_variables]


def assert_trains_the_same(loaded, model, part):
    assert trained(loaded) == trained(model), part
    assert loaded.trainable == model.trainable
    assert [x.trainable for x in loaded.layers] == [x.trainable for x in model.layers]
    assert loaded.get_config() == model.get_config()


@pytest.mark.parametrize("part", [*FREEZE, *IN_A_CLASSIFIER])
def test_a_loaded_classifier_trains_what_the_saved_one_trained(part, tmp_path):
    model = build_classifier(hidden_dim=5)
    every = len(trained(model))
    {**FREEZE, **IN_A_CLASSIFIER}[part](model)
    assert len(trained(model)) < every
    model.save(tmp_path / "model.keras")
    assert_trains_the_same(keras.saving.load_model(tmp_path / "model.keras"), model, part)
    # Of a functional model Keras clones the layers one by one.
    if part != "the model" and part not in IN_A_CLASSIFIER:
        assert trained(keras.models.clone_model(model)) == trained(model)


@pytest.mark.parametrize("part", ["all but the last block", *IN_A_PRETRAINER])
def test_a_loaded_pretrainer_trains_what_the_saved_one_trained(part, tmp_path):
    model = build_pretrainer()
    every = len(trained(model))
    {**FREEZE, **IN_A_PRETRAINER}[part](model)
    assert len(trained(model)) < every
    model.save(tmp_path / "model.keras")
    assert_trains_the_same(keras.saving.load_model(tmp_path / "model.keras"), model, part)


def test_a_loaded_classifier_of_a_frozen_backbone_goes_on_with_its_optimizer(random, tmp_path):
    images, labels = random.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8), np.arange(8) % 3
    model = build_classifier()
    model.backbone.trainable = False
    model.compile()
    model.fit(images, labels, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == 4 and int(loaded.optimizer.iterations) == 2
    for one, other in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    before = loaded.backbone.get_weights()
    loaded.fit(images, labels, batch_size=4, verbose=0)
    for old, new in zip(before, loaded.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_with_a_frozen_backbone_inside_is_loaded(tmp_path):
    backbone = build_backbone()
    backbone.get_layer("block_0").trainable = False
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Dense(2)(backbone(images)["rotation_token"]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(trained(loaded)) == len(trained(model)) == 31 - 12 + 2


def test_a_preset_and_a_clone_of_a_backbone_are_trained_whole(tmp_path):
    model = build_classifier()
    model.backbone.trainable = model.head.trainable = False
    every = len(model.weights)
    model.save_to_preset(tmp_path / "preset")
    for name in ("config.json", "task.json"):
        config = json.loads((tmp_path / "preset" / name).read_text())["config"]
        assert "trainable" not in config
    assert len(trained(SiTImageClassifier.from_preset(tmp_path / "preset"))) == every
    assert len(trained(SiTBackbone.from_preset(tmp_path / "preset"))) == every - 4
    assert len(trained(model.backbone.clone(num_layers=1))) == every - 4 - 12
    copy_resized(model.backbone, build_backbone())  # of which one alone is frozen


def test_files_with_frozen_parts_are_read_by_every_door(tmp_path):
    model = build_classifier()
    model.backbone.get_layer("norm").trainable = model.head.trainable = False
    model.save(tmp_path / "classifier.keras")
    model.backbone.save(tmp_path / "encoder.keras")
    pretrainer = SiTPretrainer(model.backbone, projection_dim=4)
    pretrainer.network.save(tmp_path / "network.keras")
    doors = {
        "encoder": SiTBackbone.from_preset, "classifier": load_classifier, "network": load_network,
    }  # fmt: skip
    for name, load in doors.items():
        for each in (load, load_saved):
            loaded = each(tmp_path / f"{name}.keras")
            assert len(trained(loaded)) == len(loaded.weights)


def test_nothing_is_written_of_a_model_of_which_nothing_is_frozen(tmp_path):
    model = build_classifier()
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))["config"]
    assert "trainable" not in config and "trainable" not in config["backbone"]["config"]
