"""The backbone and the network with its pretext heads: shapes, arguments, saving."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops

from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import build_pretext_network
from sit_keras.training.pretrainer import SiTPretrainer

# Nothing is at its default, and no two numbers are the same.
ARGUMENTS = {
    "image_shape": (24, 16, 2),
    "patch_size": 8,
    "hidden_dim": 30,
    "num_layers": 3,
    "num_heads": 5,
    "mlp_dim": 40,
    "drop_path_rate": 0.2,
    "layer_norm_epsilon": 1e-2,
    "preprocessing": PreprocessingConfig(0.7, (0.1, 0.2), (0.3, 0.4), (-1.0, 1.0)),
    "seed": 6,
    "dtype": "mixed_bfloat16",
    "name": "mine",
    "stem": "conv",
}
SMALL = {
    "image_shape": (16, 16, 3), "patch_size": 4, "hidden_dim": 24, "num_layers": 3, "num_heads": 4,
    "mlp_dim": 40,
}  # fmt: skip


def normalised(random, shape=SMALL["image_shape"], batch=3):
    return random.normal(size=(batch, *shape)).astype("float32")


def shapes(outputs):
    return {name: tuple(value.shape) for name, value in outputs.items()}


def test_every_argument_survives_the_config(random):
    parameters = inspect.signature(SiTBackbone.__init__).parameters
    assert set(ARGUMENTS) == set(parameters) - {"self", "kwargs"}
    assert all(value != parameters[name].default for name, value in ARGUMENTS.items())
    backbone = SiTBackbone(**ARGUMENTS)
    config = json.loads(json.dumps(backbone.get_config()))  # as a file has it
    twin = SiTBackbone.from_config(config)
    assert twin.get_config() == backbone.get_config()
    assert twin.preprocessing == ARGUMENTS["preprocessing"]
    for name in set(ARGUMENTS) - {"dtype"}:
        assert getattr(twin, name) == getattr(backbone, name) == ARGUMENTS[name], name
    assert twin.get_layer("norm").dtype_policy.name == "mixed_bfloat16"
    assert [v.shape for v in twin.weights] == [v.shape for v in backbone.weights]
    twin.set_weights(backbone.get_weights())
    x = normalised(random, ARGUMENTS["image_shape"])
    for training in (False, True):  # the seed, too: the same branches are dropped
        one, other = backbone(x, training=training), twin(x, training=training)
        for name in one:
            np.testing.assert_array_equal(other[name], one[name], err_msg=name)


def test_every_argument_reaches_the_blocks():
    backbone = SiTBackbone(**ARGUMENTS)
    for i in range(3):
        block = backbone.get_layer(f"block_{i}")
        for name in ("num_heads", "mlp_dim", "layer_norm_epsilon"):
            assert getattr(block, name) == ARGUMENTS[name], name
        assert block.attention_norm.epsilon == block.mlp_norm.epsilon == 1e-2
        assert block.attention.num_heads == 5
    assert backbone.get_layer("norm").epsilon == 1e-2


def test_the_random_branches_follow_the_seed(random):
    x = normalised(random, batch=40)

    def tokens(seed):
        keras.utils.set_random_seed(1)
        return SiTBackbone(**SMALL, drop_path_rate=0.9, seed=seed)(x, training=True)

    first, same, other = (np.array(tokens(seed)["rotation_token"]) for seed in (1, 1, 2))
    assert (first == same).all() and (first != other).any()


def test_stochastic_depth_grows_with_depth():
    backbone = SiTBackbone(**SMALL, drop_path_rate=0.2)
    rates = [backbone.get_layer(f"block_{i}").drop_path_rate for i in range(3)]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize("image_shape", [(16, 16, 3), (24, 16, 3), (8, 40, 1), (4, 4, 5)])
def test_the_outputs_of_square_and_oblong_backbones(image_shape, random):
    backbone = SiTBackbone(**{**SMALL, "image_shape": image_shape})
    height, width, _ = image_shape
    assert backbone.grid == (height // 4, width // 4)
    x = normalised(random, image_shape)
    assert shapes(backbone(x)) == {
        "rotation_token": (3, 24),
        "contrastive_token": (3, 24),
        "patch_tokens": (3, height * width // 16, 24),
    }
    assert shapes(build_pretext_network(backbone, 17)(x)) == {
        "rotation_logits": (3, 4),
        "projection": (3, 17),
        "reconstruction": (3, *image_shape),
    }


def test_the_settings_count_the_parameters_that_the_networks_have():
    config = NetworkConfig(16, 4, 24, 3, 4, 40, projection_dim=17)
    backbone = SiTBackbone(**config.backbone_arguments())
    assert backbone.count_params() == config.num_encoder_parameters
    assert build_pretext_network(backbone, 17).count_params() == config.num_parameters


def test_sizes_that_do_not_fit_are_refused():
    for change, message in (
        ({"image_shape": (18, 16, 3)}, "18 x 16 is not divisible by patch_size 4"),
        ({"image_shape": (16, 16)}, "must be \\(height, width, channels\\)"),
        ({"num_heads": 5}, "hidden_dim 24 is not divisible by num_heads 5"),
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1, received 0"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must lie in"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon must lie in"),
        ({"preprocessing": PreprocessingConfig(mean=(0.5,), std=(0.5,))}, "for 1 channels"),
    ):
        with pytest.raises(ValueError, match=message):
            SiTBackbone(**{**SMALL, **change})


def test_images_of_other_channels_have_a_preprocessing_of_their_own():
    assert SiTBackbone(**SMALL).preprocessing == PreprocessingConfig()
    grey = SiTBackbone(**{**SMALL, "image_shape": (16, 16, 1)})
    assert grey.preprocessing == PreprocessingConfig(mean=(0.5,), std=(0.5,))


def test_a_clone_is_the_same_network_with_new_weights():
    backbone = SiTBackbone(**SMALL)
    clone = backbone.clone(drop_path_rate=0.0)
    assert clone.get_config() == {**backbone.get_config(), "drop_path_rate": 0.0}
    kernels = [each.get_layer("patch_embedding").kernel for each in (backbone, clone)]
    assert kernels[0] is not kernels[1] and (np.array(kernels[0]) != np.array(kernels[1])).any()


@pytest.mark.parametrize("kind", ["backbone", "network"])
def test_a_saved_model_reloads_with_equal_outputs(kind, random, tmp_path):
    model = SiTBackbone(**{**SMALL, "image_shape": (24, 16, 3)})
    if kind == "network":
        model = build_pretext_network(model, 17)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = normalised(random, (24, 16, 3))
    for name, value in model(x).items():
        np.testing.assert_array_equal(loaded(x)[name], value)


def test_a_saved_pretrainer_reloads_with_every_argument(random, tmp_path):
    model = SiTPretrainer(
        SiTBackbone(**SMALL),
        tasks=("rotation", "contrastive"),
        weighting="fixed",
        task_weights=(0.5, 2.0),
        temperature=0.3,
        negatives="local",
        projection_dim=17,
        clip_norm=2.0,
        name="mine",
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, SiTPretrainer)
    x = random.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(loaded(x)["projection"], model(x)["projection"])
    for name in ("tasks", "temperature", "negatives", "projection_dim", "clip_norm", "name"):
        assert getattr(loaded, name) == getattr(model, name), name
    losses = {"rotation": ops.ones(()) * 2, "contrastive": ops.ones(()) * 3}
    assert float(loaded.weighting(losses)) == pytest.approx(7.0)


def test_learned_alphas_are_saved(tmp_path):
    model = SiTPretrainer(SiTBackbone(**SMALL))
    model.weighting.log_alphas["rotation"].assign(-0.7)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.weighting.log_alphas["rotation"]) == pytest.approx(-0.7)
