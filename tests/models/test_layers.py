"""The layers of the network: Keras' own battery, and what they compute."""

import importlib
import inspect
import pathlib

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.testing import TestCase

from sit_keras import models
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead
from sit_keras.models.heads import (
    ProjectionHead,
    ReconstructionHead,
    projection_head,
    rotation_head,
)
from sit_keras.models.layers import (
    EncoderBlock,
    PatchEmbedding,
    PrefixTokens,
    SelfAttention,
    patchify,
    unpatchify,
)
from sit_keras.models.precision import precision
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.stem import ConvStem
from sit_keras.models.stochastic_depth import BranchNoise, DropPath
from sit_keras.models.weighting import FixedWeighting, UncertaintyWeighting


@keras.saving.register_keras_serializable(package="tests")
class HeadOnPairs(ClassifierHead):
    """The classifier's head on pairs of tokens (B, 2, D), since the battery spreads out dicts."""

    def build(self, input_shape):
        super().build(dict.fromkeys(self.tokens, (input_shape[0], input_shape[2])))

    def call(self, pairs):
        return super().call(dict(zip(self.tokens, ops.unstack(pairs, axis=1), strict=True)))


IMAGE = {"image_shape": (8, 12, 3), "crop": 0.5, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
PADDED = {**IMAGE, "value_range": (-1.0, 1.0), "fit": "pad"}
# Each layer with arguments none of which is at its default, its input and output, and how many
# weights and random generators it has.
BATTERY = [
    (PatchEmbedding, {"patch_size": 4, "hidden_dim": 10}, (3, 12, 8, 2), (3, 6, 10), 2, 0),
    (
        ConvStem,
        {"patch_size": 4, "hidden_dim": 10, "layer_norm_epsilon": 1e-3},
        (3, 12, 8, 2),
        (3, 6, 10),
        8,
        0,
    ),
    (PrefixTokens, {}, (3, 6, 10), (3, 8, 10), 3, 0),
    (SelfAttention, {"num_heads": 5}, (3, 6, 10), (3, 6, 10), 4, 0),
    (DropPath, {"rate": 0.4, "seed": 3}, (3, 6, 10), (3, 6, 10), 0, 1),
    (
        EncoderBlock,
        {
            "num_heads": 5,
            "mlp_dim": 14,
            "drop_path_rate": 0.3,
            "layer_norm_epsilon": 1e-3,
            "seed": 4,
        },
        (3, 6, 10),
        (3, 6, 10),
        12,
        1,
    ),
    (
        ReconstructionHead,
        {"grid": (3, 2), "patch_size": 4, "num_channels": 2},
        (3, 6, 10),
        (3, 12, 8, 2),
        2,
        0,
    ),
    (
        ProjectionHead,
        {"projection_dim": 4, "hidden_dim": 7, "projection_layers": 3, "projection_norm": "layer"},
        (3, 10),
        (3, 4),
        10,
        0,
    ),
    (HeadOnPairs, {"num_classes": 5, "class_names": tuple("abcde")}, (3, 2, 10), (3, 5), 4, 0),
    (HeadOnPairs, {"num_classes": 5, "hidden_dim": 7}, (3, 2, 10), (3, 5), 8, 0),
    (
        ImagePreprocessing,
        {**IMAGE, "value_range": (-1.0, 1.0), "fit": "pad"},
        (3, 20, 9, 3),
        (3, 8, 12, 3),
        0,
        0,
    ),
]


@pytest.mark.parametrize(
    ("layer", "arguments", "input_shape", "output_shape", "num_weights", "num_generators"),
    BATTERY,
    ids=[f"{case[0].__name__}-{i}" for i, case in enumerate(BATTERY)],
)
def test_a_layer_passes_the_battery_of_keras(
    layer, arguments, input_shape, output_shape, num_weights, num_generators
):
    case = TestCase()
    case.setUp()
    case.run_layer_test(
        layer,
        arguments,
        input_shape=input_shape,
        expected_output_shape=output_shape,
        expected_num_trainable_weights=num_weights,
        expected_num_non_trainable_weights=0,
        expected_num_seed_generators=num_generators,
        run_training_check=num_weights > 0,
    )


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (UncertaintyWeighting, {"tasks": ("rotation", "contrastive"), "name": "mine"}),
        (FixedWeighting, {"tasks": ("rotation",), "values": (2.0,), "name": "mine"}),
    ],
)
def test_a_weighting_passes_what_applies_of_the_battery(layer, arguments):
    """Its input is a dict of scalars, which the battery cannot make; see test_losses.py for it."""
    case = TestCase()
    case.setUp()
    case.run_layer_test(layer, arguments)


@pytest.mark.parametrize(
    ("layer", "arguments", "shape"),
    [case[:3] for case in BATTERY if case[0] is not HeadOnPairs],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_layer_rebuilds_from_its_config(layer, arguments, shape, random):
    x = random.normal(size=shape).astype("float32")
    one = layer(**arguments)
    expected = one(x)
    twin = layer.from_config(one.get_config())
    twin.build(shape)
    assert [v.shape for v in twin.weights] == [v.shape for v in one.weights]
    twin.set_weights(one.get_weights())
    np.testing.assert_array_equal(twin(x), expected)
    assert tuple(twin.compute_output_shape(shape)) == tuple(expected.shape)
    names, inherited = (
        set(inspect.signature(each.__init__).parameters) for each in (layer, keras.layers.Layer)
    )
    names -= inherited | {"kwargs"}
    assert names == set(arguments)  # each has a value here that is not its default
    assert {name: twin.get_config()[name] for name in names} == arguments


def test_the_heads_compute_in_float32_whatever_the_policy():
    with precision("mixed_float16"):
        for layer in (rotation_head(), projection_head(7), ClassifierHead(3)):
            assert layer.compute_dtype == "float32"
        head = projection_head(7, 2, "layer", hidden_dim=5)
        head.build((3, 4))
        for layer in (head, *head.hidden, *head.norms, head.last):
            assert layer.compute_dtype == "float32"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("hidden_dim", [None, 5])
def test_the_head_of_a_classifier_computes_in_float32_whatever_the_policy(
    hidden_dim, policy, random
):
    tokens = {name: random.normal(size=(4, 6)).astype("float32") for name in ClassifierHead.tokens}
    shapes = {name: (4, 6) for name in tokens}
    plain = ClassifierHead(3, hidden_dim)
    plain.build(shapes)
    with precision(policy):
        head = ClassifierHead(3, hidden_dim)
        head.build(shapes)
        head.set_weights(plain.get_weights())
        logits = head(tokens)
    assert logits.dtype == "float32"
    np.testing.assert_array_equal(logits, plain(tokens))


def test_a_feature_extractor_that_ends_in_the_last_norm_is_loaded_again(random, tmp_path):
    backbone = SiTBackbone((8, 8, 3), 4, 8, 1, 2, 12)
    model = keras.Model(backbone.input, backbone.get_layer("norm").output)
    model.save(tmp_path / "features.keras")
    loaded = keras.saving.load_model(tmp_path / "features.keras")
    images = random.normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_every_layer_and_model_of_the_package_is_registered():
    """Else a file that holds one cannot be loaded."""
    for module in pathlib.Path(models.__file__).parent.glob("*.py"):
        found = vars(importlib.import_module(f"sit_keras.models.{module.stem}")).values()
        for each in found:
            if isinstance(each, type) and issubclass(each, keras.layers.Layer):
                if each.__module__.startswith("sit_keras."):
                    name = keras.saving.get_registered_name(each)
                    assert name == f"sit_keras>{each.__name__}", each


def test_patches_come_back_together(random):
    x = random.normal(size=(3, 24, 16, 3)).astype("float32")
    patches = patchify(x, 4)
    assert patches.shape == (3, 24, 48)
    np.testing.assert_array_equal(patches[1, 5], x[1, 4:8, 4:8].reshape(-1))
    np.testing.assert_array_equal(unpatchify(patches, (6, 4), 4), x)


def test_the_prefix_tokens_come_first_and_everything_has_a_position(random):
    x = random.normal(size=(2, 3, 5)).astype("float32")
    layer = PrefixTokens()
    y = layer(x)
    tokens = np.concatenate([layer.rotation_token, layer.contrastive_token], axis=1)
    expected = np.concatenate([np.repeat(tokens, 2, axis=0), x], axis=1) + layer.positions
    np.testing.assert_allclose(y, expected, atol=1e-6)


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


def test_a_fold_changes_what_is_dropped_and_only_where_it_is_set():
    def dropped(noise):
        return np.array(DropPath(0.5, seed=noise)(ops.ones((200, 1)), training=True))

    plain, same, folded = (BranchNoise(3) for _ in range(3))
    folded.fold = lambda seed: seed + 1
    assert (dropped(plain) == dropped(same)).all()
    assert (dropped(BranchNoise(3)) != dropped(folded)).any()
