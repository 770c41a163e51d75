"""The convolutional stem: against a convolution by loops, and wherever a stem is looked for."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.profiler import model_analyzer, option_builder

from sit_keras.config.network import NetworkConfig, stem_widths
from sit_keras.config.serialization import to_dict
from sit_keras.models.attention import attention_maps
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.layers import PatchEmbedding
from sit_keras.models.loading import copy_resized
from sit_keras.models.seeding import seeded
from sit_keras.models.stem import ConvStem
from sit_keras.training.fused import fuse
from sit_keras.training.pretrainer import SiTPretrainer

# Oblong, of two channels, with a width that does not halve evenly.
SMALL = {
    "image_shape": (16, 8, 2), "patch_size": 4, "hidden_dim": 14, "num_layers": 1, "num_heads": 2,
    "mlp_dim": 12, "stem": "conv",
}  # fmt: skip


def halved(image, kernel):
    """A 3 x 3 convolution of stride 2, in which what lies below and right of the image is zero."""
    height, width, channels = image.shape
    result = np.zeros((height // 2, width // 2, kernel.shape[-1]))
    for row in range(height // 2):
        for column in range(width // 2):
            for down in range(3):
                for right in range(3):
                    y, x = 2 * row + down, 2 * column + right
                    if y < height and x < width:
                        for channel in range(channels):
                            result[row, column] += (
                                image[y, x, channel] * kernel[down, right, channel]
                            )
    return result


def stem_by_loops(image, state, epsilon):
    """One image (H, W, C) to its tokens (N, D), from weights by the ends of their names."""
    x = image.astype(np.float64)
    for i in range(sum("kernel" in name for name in state) - 1):
        x = halved(x, state[f"convolution_{i}/kernel"])
        gamma, beta = state[f"norm_{i}/gamma"], state[f"norm_{i}/beta"]
        for pixel in np.ndindex(x.shape[:2]):
            mean = sum(x[pixel]) / len(x[pixel])
            variance = sum((x[pixel] - mean) ** 2) / len(x[pixel])
            normal = (x[pixel] - mean) / math.sqrt(variance + epsilon) * gamma + beta
            x[pixel] = [z * 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in normal]
    tokens = [x[pixel] @ state["projection/kernel"] for pixel in np.ndindex(x.shape[:2])]
    return np.array(tokens) + state["projection/bias"]


def randomised(layer, random):
    """The weights of a layer by the ends of their names, none of which is zero or one."""
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape))
    return {"/".join(w.path.split("/")[-2:]): w.numpy().astype(np.float64) for w in layer.weights}


@pytest.mark.parametrize("patch_size", [2, 8])
def test_the_stem_equals_a_convolution_by_loops(patch_size, random):
    images = random.normal(size=(2, 16, 8, 3)).astype("float32")
    stem = ConvStem(patch_size, 5, layer_norm_epsilon=1e-3)
    stem.build(images.shape)
    state = randomised(stem, random)
    expected = np.stack([stem_by_loops(image, state, 1e-3) for image in images])
    for training in (False, True):
        found = stem(images, training=training)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_channels_double_up_to_the_width():
    assert stem_widths(8, 128) == [32, 64, 128]
    assert stem_widths(16, 192) == [24, 48, 96, 192]  # as in the paper
    assert stem_widths(2, 30) == [30]
    assert stem_widths(8, 30) == [7, 15, 30]
    assert stem_widths(16, 2) == [1, 1, 1, 2]


@pytest.mark.parametrize("patch_size", [2, 4, 8])
def test_the_settings_count_the_parameters_and_operations_of_a_network_with_the_stem(patch_size):
    config = NetworkConfig(16, patch_size, 12, 1, 2, 10, stem="conv")
    encoder = SiTBackbone(**config.backbone_arguments())
    assert encoder.count_params() == config.num_encoder_parameters
    spec = tf.TensorSpec((1, 16, 16, 3), tf.float32)
    graph = tf.function(lambda x: encoder(x), autograph=False).get_concrete_function(spec).graph
    options = option_builder.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    waiting, counted = [model_analyzer.profile(graph, options=options)], 0
    while waiting:
        node = waiting.pop()
        waiting += node.children
        is_product = any(word in node.name for word in ("atMul", "Conv2D", "convolution"))
        counted += node.total_float_ops if is_product and not node.children else 0
    assert counted == config.num_encoder_flops


def test_without_options_the_weights_of_a_seed_are_those_of_before_the_options():
    with seeded(3):
        model = SiTPretrainer(SiTBackbone((8, 8, 3), 4, 8, 1, 2, 12), projection_dim=5)
    assert isinstance(model.backbone.get_layer("patch_embedding"), PatchEmbedding)
    network = model.network
    layers = [
        model.backbone.get_layer("patch_embedding"), network.get_layer("rotation_head"),
        network.get_layer("projection_head"), network.get_layer("reconstruction_head"),
    ]  # fmt: skip
    found = [layer.kernel.numpy()[0, 0] for layer in layers]
    np.testing.assert_allclose(
        found, [0.050087392, 0.007364455, -0.0131994225, 0.121284634], rtol=1e-6
    )
    assert [weight.path for weight in network.weights[:4]] == [
        "patch_embedding/kernel", "patch_embedding/bias", "prefix_tokens/rotation_token",
        "prefix_tokens/contrastive_token",
    ]  # fmt: skip


@pytest.mark.parametrize("patch_size", [1, 3, 6, 12])
def test_a_patch_that_cannot_be_halved_is_refused(patch_size):
    with pytest.raises(
        ValueError, match=f"must be a power of two .* received {patch_size}: choose"
    ):
        NetworkConfig(12, patch_size, 12, 1, 2, 10, stem="conv")
    with pytest.raises(ValueError, match="must be a power of two"):
        SiTBackbone(**{**SMALL, "image_shape": (12, 12, 2), "patch_size": patch_size})


def test_an_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="Unknown stem 'convolution': choose one of patch, conv."):
        SiTBackbone(**{**SMALL, "stem": "convolution"})


@pytest.mark.parametrize("place", ["preset", "encoder.keras"])
def test_a_saved_encoder_with_the_stem_comes_back_at_its_size_and_at_others(
    place, random, tmp_path
):
    encoder = SiTBackbone(**SMALL)
    encoder.save_to_preset(tmp_path / "preset")
    encoder.save(tmp_path / "encoder.keras")
    images = random.normal(size=(2, 16, 8, 2)).astype("float32")
    loaded = SiTBackbone.from_preset(tmp_path / place)
    assert loaded.get_config() == encoder.get_config() and loaded.stem == "conv"
    for name, value in encoder(images).items():
        np.testing.assert_array_equal(loaded(images)[name], value)
    larger = SiTBackbone.from_preset(tmp_path / place, image_shape=(24, 12, 2))
    assert larger.grid == (6, 3)
    stems = [each.get_layer("patch_embedding") for each in (encoder, larger)]
    for old, new in zip(*(stem.weights for stem in stems), strict=True):
        np.testing.assert_array_equal(old, new)
    # Away from the borders a stem sees the same whatever the size of the image is.
    wide = np.pad(images, [(0, 0), (8, 0), (4, 0), (0, 0)])
    old, new = (np.array(stem(x)) for stem, x in zip(stems, (images, wide), strict=True))
    new = new.reshape(2, 6, 3, 14)[:, 2:, 1:]
    np.testing.assert_allclose(new, old.reshape(2, 4, 2, 14), atol=1e-5)


def test_the_weights_of_one_stem_are_not_those_of_another():
    encoder = SiTBackbone(**SMALL)
    with pytest.raises(ValueError, match="another network .stem: conv -> patch"):
        copy_resized(encoder, encoder.clone(stem="patch"))


def test_a_file_from_before_the_stem_is_an_encoder_of_patches(tmp_path):
    encoder = SiTBackbone(**{**SMALL, "stem": "patch"})
    encoder.save_to_preset(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["config"]["stem"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert SiTBackbone.from_preset(tmp_path).get_config() == encoder.get_config()


@pytest.mark.parametrize("stem", ["conv2", ["conv"], None, 3])
def test_a_file_of_an_unknown_stem_is_refused(stem, tmp_path):
    SiTBackbone(**SMALL).save_to_preset(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["config"]["stem"] = stem
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="does not describe a SiTBackbone: Unknown stem"):
        SiTBackbone.from_preset(tmp_path)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_stem_computes_in_half_precision_and_keeps_its_weights_in_full(policy, random):
    encoder = SiTBackbone(**SMALL, dtype=policy)
    stem = encoder.get_layer("patch_embedding")
    images = random.normal(size=(2, 16, 8, 2)).astype("float32")
    assert all(weight.dtype == "float32" for weight in stem.weights)
    full = ConvStem(4, 14)
    full.build(images.shape)
    full.set_weights(stem.get_weights())
    fuse(encoder)
    for training in (False, True):
        tokens = stem(images, training=training)
        assert keras.backend.standardize_dtype(tokens.dtype) == policy.removeprefix("mixed_")
        np.testing.assert_allclose(tf.cast(tokens, "float32"), full(images), atol=0.05)


def test_training_uses_the_compiled_functions_in_the_stem_and_inference_does_not(random):
    encoder = SiTBackbone(**SMALL)
    calls = []

    def gelu(x):
        calls.append("gelu")
        return x * 0

    def norm(x, gamma, beta, epsilon):
        calls.append("norm")
        return x

    encoder.train_with(gelu=gelu, layer_norm=norm)
    stem, images = encoder.get_layer("patch_embedding"), np.ones((1, 16, 8, 2), "float32")
    stem(images, training=False)
    assert calls == []
    stem(images, training=True)
    assert calls == ["norm", "gelu"] * 2


def test_maps_of_attention_have_the_grid_of_an_encoder_with_the_stem(random):
    encoder = SiTBackbone(**SMALL)
    maps = attention_maps(encoder, random.normal(size=(3, 16, 8, 2)).astype("float32"))
    assert maps["rotation_token"]["heads"].shape == (3, 2, 4, 2)
    assert maps["contrastive_token"]["rollout"].shape == (3, 4, 2)


def test_the_stem_is_a_setting_of_the_network():
    config = NetworkConfig(16, 4, 12, 1, 2, 10, stem="conv")
    assert config.backbone_arguments()["stem"] == to_dict(config)["stem"] == "conv"
    assert not any(name.startswith("projection") for name in config.backbone_arguments())
