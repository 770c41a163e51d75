"""Attention against NumPy: of each block, its rollout, and the maps of the two tokens."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden_case import golden_config, group, to_nhwc
from tensorflow.python.profiler import model_analyzer, option_builder

from sit_keras.conversion import weight_names
from sit_keras.models.attention import attention, attention_maps, follow
from sit_keras.models.backbone import SiTBackbone


@pytest.fixture(scope="module")
def encoder(golden_sit):
    model = SiTBackbone(**golden_config(golden_sit).backbone_arguments())
    weight_names.load_state(model, group(golden_sit, "state/"))
    return model


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def attention_by_numpy(state, block, x, num_heads):
    """Softmax of query and key, head by head, from the authors' own weights."""
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x * state[f"blocks.{block}.norm1.weight"] + state[f"blocks.{block}.norm1.bias"]
    name = f"blocks.{block}.attn.qkv"
    qkv = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    width, size = x.shape[-1], x.shape[-1] // num_heads
    for head in range(num_heads):
        query = qkv[..., head * size : (head + 1) * size]
        key = qkv[..., width + head * size : width + (head + 1) * size]
        yield softmax(query @ key.transpose(0, 2, 1) / np.sqrt(size))


def test_the_attention_of_each_block_equals_that_of_numpy(golden_sit, encoder):
    state, images = group(golden_sit, "state/"), to_nhwc(golden_sit["in/x1"])
    before = ["prefix_tokens", "block_0"]  # the layers whose outputs the blocks are given
    found = [np.asarray(weights) for weights in attention(encoder, images)]
    assert len(found) == len(before) == encoder.num_layers
    for number, layer in enumerate(before):
        tokens = keras.Model(encoder.input, encoder.get_layer(layer).output)
        x = np.asarray(tokens(images), np.float64)
        expected = list(attention_by_numpy(state, number, x, encoder.num_heads))
        np.testing.assert_allclose(found[number], np.stack(expected, axis=1), atol=1e-5)


def test_the_rollout_equals_that_of_a_loop(random):
    blocks = softmax(random.normal(size=(3, 2, 4, 5, 5))).astype("float32")  # (L, B, A, T, T)
    found = None
    for weights in blocks:
        found = follow(weights, found)
    for image in range(2):
        flow = np.eye(5)
        for block in blocks[:, image]:
            flow = (sum(block) / len(block) + np.eye(5)) / 2 @ flow
        np.testing.assert_allclose(found[image], flow, atol=1e-6)


def test_the_maps_are_the_rows_of_the_tokens(golden_sit, encoder):
    images = to_nhwc(golden_sit["in/x1"])
    flow = None
    for last in attention(encoder, images):
        flow = follow(last, flow)
    _, columns = encoder.grid
    maps = attention_maps(encoder, images)
    for place, token in enumerate(("rotation_token", "contrastive_token")):
        row, column = 1, 2
        patch = 2 + row * columns + column
        heads, rollout = (np.asarray(maps[token][name]) for name in ("heads", "rollout"))
        assert heads.shape[2:] == rollout.shape[1:] == encoder.grid
        np.testing.assert_array_equal(heads[:, :, row, column], last[:, :, place, patch])
        np.testing.assert_array_equal(rollout[:, row, column], flow[:, place, patch])


def test_the_number_of_flops_is_what_tensorflow_counts(golden_sit, encoder):
    spec = tf.TensorSpec((1, *encoder.image_shape), tf.float32)
    graph = tf.function(lambda x: encoder(x), autograph=False).get_concrete_function(spec).graph
    options = option_builder.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    counted = model_analyzer.profile(graph, options=options)
    products = sum(node.total_float_ops for node in _leaves(counted) if "atMul" in node.name)
    assert products == golden_config(golden_sit).num_encoder_flops


def _leaves(node):
    return [node] if not node.children else [x for child in node.children for x in _leaves(child)]
