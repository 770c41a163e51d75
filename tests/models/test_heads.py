"""The contrastive head of several layers: against NumPy, counted, saved and refused."""

import json
import math
import zipfile

import keras
import numpy as np
import pytest

from sit_keras.config.network import NetworkConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import ProjectionHead, build_pretext_network, projection_head
from sit_keras.models.saved import load_network
from sit_keras.training.pretrainer import SiTPretrainer

NETWORK = {
    "image_shape": (8, 8, 3), "patch_size": 4, "hidden_dim": 8, "num_layers": 1, "num_heads": 2,
    "mlp_dim": 12,
}  # fmt: skip
HEADS = [(2, "none"), (3, "none"), (2, "layer"), (3, "layer")]


def head_by_loops(token, state, layers, norm):
    """One token (D,) to its embedding, from weights by the ends of their names."""
    x = token.astype(np.float64)
    for i in range(layers - 1):
        x = x @ state[f"hidden_{i}/kernel"] + state[f"hidden_{i}/bias"]
        if norm == "layer":
            mean = sum(x) / len(x)
            x = (x - mean) / math.sqrt(sum((x - mean) ** 2) / len(x) + 1e-6)
            x = x * state[f"norm_{i}/gamma"] + state[f"norm_{i}/beta"]
        x = np.array([z * 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in x])
    return x @ state["last/kernel"] + state["last/bias"]


@pytest.mark.parametrize(("layers", "norm"), HEADS)
def test_the_head_equals_a_transcription_in_numpy(layers, norm, random):
    head = projection_head(5, layers, norm, hidden_dim=7)
    tokens = random.normal(size=(3, 6)).astype("float32")
    head.build(tokens.shape)
    for weight in head.weights:
        weight.assign(random.normal(size=weight.shape))
    state = {"/".join(w.path.split("/")[-2:]): w.numpy().astype(np.float64) for w in head.weights}
    expected = [head_by_loops(token, state, layers, norm) for token in tokens]
    np.testing.assert_allclose(head(tokens), expected, rtol=1e-4, atol=1e-5)


def test_the_head_of_one_layer_is_the_linear_layer_that_it_was():
    head = projection_head(5)
    assert type(head) is keras.layers.Dense and head.name == "projection_head"
    network = build_pretext_network(SiTBackbone(**NETWORK), 5)
    assert [weight.path for weight in network.get_layer("projection_head").weights] == [
        "projection_head/kernel", "projection_head/bias",
    ]  # fmt: skip


@pytest.mark.parametrize(("layers", "norm"), [(1, "none"), *HEADS])
def test_the_settings_count_the_parameters_and_products_of_the_head(layers, norm):
    config = NetworkConfig(
        8, 4, 8, 1, 2, 12, projection_dim=5, projection_layers=layers, projection_norm=norm
    )
    backbone = SiTBackbone(**config.backbone_arguments())
    network = build_pretext_network(backbone, **config.projection_arguments())
    assert network.count_params() == config.num_parameters
    heads = [network.get_layer(n) for n in ("rotation_head", "projection_head")]
    kernels = [w for head in heads for w in head.weights if len(w.shape) == 2]
    products = sum(math.prod(kernel.shape) for kernel in kernels) + 8 * 8 * 8 * 3
    assert config.num_flops - config.num_encoder_flops == 2 * products


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"projection_layers": 0}, "must be a whole number from 1 to 3, received 0"),
        ({"projection_layers": 4}, "must be a whole number from 1 to 3, received 4"),
        ({"projection_layers": 2.0}, "must be a whole number from 1 to 3, received 2.0"),
        ({"projection_layers": 2, "projection_norm": "batch"}, "choose one of none, layer"),
        ({"projection_norm": "layer"}, "there is a single layer: set projection_layers to 2 or 3"),
    ],
)
def test_what_makes_no_head_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SiTPretrainer(SiTBackbone(**NETWORK), projection_dim=5, **arguments)


@pytest.mark.parametrize(("layers", "norm"), HEADS)
def test_a_saved_network_comes_back_with_its_head(layers, norm, random, tmp_path):
    network = build_pretext_network(SiTBackbone(**NETWORK), 5, layers, norm)
    network.save(tmp_path / "network.keras")
    images = random.normal(size=(2, 8, 8, 3)).astype("float32")
    for load in (load_network, keras.saving.load_model):
        loaded = load(tmp_path / "network.keras")
        assert isinstance(loaded.get_layer("projection_head"), ProjectionHead)
        np.testing.assert_array_equal(loaded(images)["projection"], network(images)["projection"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projection_dim": 6}, "holds"),
        ({"projection_dim": 2**40}, "width of the projection must be"),
        ({"projection_dim": None}, "width of the projection must be"),
        ({"projection_layers": 3}, "holds"),
        ({"projection_layers": 10**6}, "whole number from 1 to 3"),
        ({"projection_layers": "2"}, "whole number from 1 to 3"),
        ({"projection_layers": 1, "projection_norm": "none"}, "1 layers and the inner width 12"),
        ({"projection_norm": ["layer"]}, "Unknown projection_norm"),
        ({"hidden_dim": 13}, "inner width 13, expected at least 2 layers and the width 12"),
    ],
    ids=str,
)
def test_a_file_of_another_head_is_refused(change, message, tmp_path):
    build_pretext_network(SiTBackbone(**NETWORK), 5, 2, "layer").save(tmp_path / "network.keras")
    with zipfile.ZipFile(tmp_path / "network.keras") as old:
        members = {name: old.read(name) for name in old.namelist()}
    values = json.loads(members["config.json"])
    (head,) = [x for x in values["config"]["layers"] if x["name"] == "projection_head"]
    head["config"].update(change)
    members["config.json"] = json.dumps(values).encode()
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    with pytest.raises(ValueError, match=message):
        load_network(tmp_path / "other.keras")


def test_the_pretrainer_keeps_the_arguments_of_its_head(tmp_path):
    arguments = {"projection_dim": 5, "projection_layers": 3, "projection_norm": "layer"}
    model = SiTPretrainer(SiTBackbone(**NETWORK, stem="conv"), **arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in arguments.items():
        assert loaded.get_config()[name] == getattr(loaded, name) == value, name
    assert loaded.backbone.stem == "conv"
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(loaded(images)["projection"], model(images)["projection"])


def test_a_task_that_is_left_out_trains_no_layer_of_its_head():
    model = SiTPretrainer(
        SiTBackbone(**NETWORK), tasks=("rotation",), projection_dim=5, projection_layers=3,
        projection_norm="layer",
    )  # fmt: skip
    assert not any("projection_head" in weight.path for weight in model.trainable_variables)
