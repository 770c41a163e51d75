"""GELU and layer normalisation compiled for training equal those that the layers are defined by."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras import SiTBackbone, SiTPretrainer
from sit_keras.models.layers import exact_gelu, layer_norm
from sit_keras.training.fused import fuse, fused_gelu, fused_layer_norm

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(1, 3, (4, 5, 6)).astype(np.float32)
GAMMA, BETA = RANDOM.normal(size=(2, 6)).astype(np.float32)


def value_and_gradients(function, *inputs):
    inputs = [tf.constant(each) for each in inputs]

    @tf.function
    def compute():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
            loss = tf.reduce_sum(tf.sin(tf.cast(value, tf.float32)))
        return [value, *tape.gradient(loss, inputs)]

    return compute()


def assert_equal(function, definition, *inputs, tolerance=2e-6):
    found, wanted = (value_and_gradients(f, *inputs) for f in (function, definition))
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        a, b = (tf.cast(each, tf.float32).numpy() for each in (a, b))
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max()))


def test_gelu_and_its_gradient_equal_those_of_keras():
    assert_equal(fused_gelu, exact_gelu, X)


def test_gelu_of_known_numbers():
    # x Phi(x) from a table of the normal distribution.
    found = fused_gelu(tf.constant([-1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_allclose(found, [-0.1586553, 0, 0.8413447, 1.9544997], atol=1e-6)


def test_layer_norm_and_its_gradients_equal_those_of_keras():
    assert_equal(
        lambda *inputs: fused_layer_norm(*inputs, 1e-6),
        lambda *inputs: layer_norm(*inputs, 1e-6),
        X,
        GAMMA,
        BETA,
    )


def test_both_take_the_maps_of_a_convolutional_stem():
    maps = np.stack([X, -X])  # (2, 4, 5, 6)
    assert_equal(fused_gelu, exact_gelu, maps)
    fused, exact = (lambda *inputs, f=f: f(*inputs, 1e-6) for f in (fused_layer_norm, layer_norm))
    assert_equal(fused, exact, maps, GAMMA, BETA)


def test_layer_norm_of_tokens_of_one_value_is_its_shift():
    found = fused_layer_norm(tf.fill((2, 3, 6), 7.0), GAMMA, BETA, 1e-6)
    np.testing.assert_allclose(found, np.broadcast_to(BETA, (2, 3, 6)), atol=1e-6)


def test_both_keep_bfloat16_and_compute_in_float32():
    half = tf.cast(X, tf.bfloat16)
    exact = tf.cast(half, tf.float32)
    np.testing.assert_array_equal(fused_gelu(half), tf.cast(fused_gelu(exact), tf.bfloat16).numpy())
    np.testing.assert_array_equal(
        fused_layer_norm(half, GAMMA, BETA, 1e-6),
        tf.cast(fused_layer_norm(exact, GAMMA, BETA, 1e-6), tf.bfloat16).numpy(),
    )


@pytest.fixture(scope="module")
def model():
    backbone = SiTBackbone((8, 8, 3), 4, 16, 2, 2, 32, drop_path_rate=0.0)
    return SiTPretrainer(backbone, projection_dim=8)


def compiled_parts(function):
    """How many compiled functions a traced one calls, for values and for gradients."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return sum(node.attr["_XlaMustCompile"].b for node in nodes)


def traced_step(model):
    views = model.make_views(tf.zeros((8, 8, 8, 3), tf.uint8), tf.constant(0, tf.int64))
    return tf.function(lambda: model.train_step(views)).get_concrete_function()


def test_training_is_compiled_unless_it_is_switched_off(model):
    model.compile()
    # Two GELUs and five norms, forward and backward.
    assert compiled_parts(traced_step(model)) == 2 * (2 + 5)
    model.compile(jit_compile=False)
    assert compiled_parts(traced_step(model)) == 0


def test_inference_has_no_compiled_part_that_a_server_could_lack(model):
    model.compile()
    images = tf.TensorSpec((None, 8, 8, 3))
    infer = tf.function(lambda images: model.backbone(images, training=False))
    assert compiled_parts(infer.get_concrete_function(images)) == 0


def test_training_sees_what_inference_sees_where_no_path_is_dropped(model):
    images = RANDOM.normal(size=(3, 8, 8, 3)).astype(np.float32)
    fuse(model.backbone)
    found, wanted = (model.backbone(images, training=t) for t in (True, False))
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, wanted
    )
