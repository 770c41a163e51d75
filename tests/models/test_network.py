import dataclasses
import inspect

import keras
import numpy as np
import pytest
from keras import ops

from sit_keras.config.network import SiTConfig
from sit_keras.models.backbone import build_encoder, build_ssl_model
from sit_keras.models.heads import ReconstructionHead, projection_head, rotation_head
from sit_keras.models.layers import (
    DropPath,
    EncoderBlock,
    PatchEmbedding,
    PrefixTokens,
    SelfAttention,
    patchify,
    unpatchify,
)
from sit_keras.models.loading import load_encoder, resize_encoder
from sit_keras.training.pretrainer import SiTPretrainer

CONFIG = SiTConfig((24, 16), 4, 24, 3, 4, 40, 0.2, 1e-5, 17)  # nothing at its default
SQUARE = dataclasses.replace(CONFIG, image_size=16)


def images(random, config=CONFIG, batch=3):
    return random.normal(size=(batch, *config.input_size, 3)).astype("float32")


LAYERS = [
    (PatchEmbedding(4, 10), (3, 12, 8, 3)),
    (PrefixTokens(), (3, 6, 10)),
    (SelfAttention(5), (3, 6, 10)),
    (DropPath(0.4, seed=3), (3, 6, 10)),
    (EncoderBlock(5, 14, drop_path_rate=0.3, layer_norm_epsilon=1e-3), (3, 6, 10)),
    (ReconstructionHead((3, 2), 4, num_channels=2), (3, 6, 10)),
    (rotation_head(), (3, 10)),
    (projection_head(7), (3, 10)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda x: getattr(x, "name", ""))
def test_a_layer_rebuilds_from_its_config(layer, shape, random):
    x = random.normal(size=shape).astype("float32")
    expected = layer(x)
    twin = type(layer).from_config(layer.get_config())
    twin.build(shape)
    assert [v.shape for v in twin.weights] == [v.shape for v in layer.weights]
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(twin(x), expected)
    assert tuple(twin.compute_output_shape(shape)) == tuple(expected.shape)
    for name in set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}:
        if type(layer).__module__.startswith("sit_keras"):
            assert getattr(twin, name) == getattr(layer, name), name


def test_patches_come_back_together(random):
    x = images(random)
    patches = patchify(x, 4)
    assert patches.shape == (3, 24, 48)
    np.testing.assert_array_equal(patches[1, 5], x[1, 4:8, 4:8].reshape(-1))
    np.testing.assert_array_equal(unpatchify(patches, (6, 4), 4), x)


def test_attention_against_numpy(random):
    layer = SelfAttention(2)
    x = random.normal(size=(2, 5, 6)).astype("float32")
    result = layer(x)
    qkv = x @ layer.qkv.kernel.numpy() + layer.qkv.bias.numpy()
    heads = []
    for head in range(2):
        q, k, v = (qkv[..., 6 * i + 3 * head : 6 * i + 3 * head + 3] for i in range(3))
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(3))
        heads.append(scores / scores.sum(-1, keepdims=True) @ v)
    expected = np.concatenate(heads, -1) @ layer.projection.kernel.numpy()
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_drop_path_drops_samples_and_keeps_the_mean():
    layer = DropPath(0.25, seed=0)
    x = ops.ones((4000, 2, 3))
    y = np.array(layer(x, training=True))
    assert set(np.unique(y).round(5)) == {0.0, np.float32(1.33333)}
    assert (y == y[:, :1, :1]).all()  # a sample is dropped as a whole
    assert abs(y.mean() - 1) < 0.03
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_stochastic_depth_grows_with_depth():
    rates = [build_encoder(CONFIG).get_layer(f"block_{i}").drop_path_rate for i in range(3)]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_encoder_outputs(random):
    outputs = build_encoder(CONFIG)(images(random))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {"rotation": (3, 24), "contrastive": (3, 24), "patches": (3, 24, 24)}


def test_ssl_outputs(random):
    outputs = build_ssl_model(CONFIG)(images(random))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "rotation": (3, 4),
        "contrastive": (3, 17),
        "reconstruction": (3, 24, 16, 3),
    }


@pytest.mark.parametrize("build", [build_encoder, build_ssl_model])
def test_a_saved_model_reloads_with_equal_outputs(build, random, tmp_path):
    model = build(CONFIG)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(random)
    for name, value in model(x).items():
        np.testing.assert_array_equal(loaded(x)[name], value)


def test_a_saved_pretrainer_reloads_with_every_argument(random, tmp_path):
    model = SiTPretrainer(
        SQUARE,
        tasks=("rotation", "contrastive"),
        weighting="fixed",
        task_weights=(0.5, 2.0),
        temperature=0.3,
        negatives="local",
        clip_norm=2.0,
        name="mine",
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, SiTPretrainer)
    x = images(random, SQUARE)
    np.testing.assert_array_equal(loaded(x)["contrastive"], model(x)["contrastive"])
    for name in ("config", "tasks", "temperature", "negatives", "clip_norm", "name"):
        assert getattr(loaded, name) == getattr(model, name), name
    losses = {"rotation": ops.ones(()) * 2, "contrastive": ops.ones(()) * 3}
    assert float(loaded.weighting(losses)) == pytest.approx(7.0)


def test_learned_alphas_are_saved(tmp_path):
    model = SiTPretrainer(SQUARE)
    model.weighting.log_alphas["rotation"].assign(-0.7)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.weighting.log_alphas["rotation"]) == pytest.approx(-0.7)


def test_load_encoder(random, tmp_path):
    encoder = build_encoder(CONFIG)
    encoder.save(tmp_path / "encoder.keras")
    for path in (tmp_path, tmp_path / "encoder.keras", str(tmp_path)):
        loaded = load_encoder(path)
        assert loaded.config == CONFIG
    x = images(random)
    np.testing.assert_array_equal(loaded(x)["patches"], encoder(x)["patches"])


def test_load_encoder_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="No encoder at .*nothing"):
        load_encoder(tmp_path / "nothing")
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(ValueError, match="cannot be read as an encoder"):
        load_encoder(tmp_path / "broken.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="holds a Sequential, expected a SiTEncoder"):
        load_encoder(tmp_path / "other.keras")


@pytest.mark.parametrize("size", [24, (32, 12), (24, 16)])
def test_an_encoder_resizes_to_another_image(size, random, tmp_path):
    encoder = build_encoder(CONFIG)
    encoder.save(tmp_path / "encoder.keras")
    resized = load_encoder(tmp_path, image_size=size)
    config = dataclasses.replace(CONFIG, image_size=size)
    assert resized.config == config
    outputs = resized(images(random, config))
    assert outputs["patches"].shape == (3, config.grid[0] * config.grid[1], 24)
    old, new = encoder.get_layer("prefix_tokens"), resized.get_layer("prefix_tokens")
    np.testing.assert_array_equal(old.positions[:, :2], new.positions[:, :2])
    if size == CONFIG.image_size:
        np.testing.assert_allclose(old.positions, new.positions, atol=1e-6)


def test_a_resized_encoder_is_refused_at_a_size_that_patches_do_not_fill():
    with pytest.raises(ValueError, match="not divisible by patch_size"):
        resize_encoder(build_encoder(CONFIG), 18)
