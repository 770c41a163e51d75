"""With remat the backward pass computes the blocks again, and nothing else changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.pretrainer import SiTPretrainer

NETWORK = dict(
    image_shape=(8, 8, 3), patch_size=4, hidden_dim=12, num_layers=2, num_heads=2, mlp_dim=16,
    drop_path_rate=0.6, seed=1,
)  # fmt: skip


def new_model(remat, dtype=None, stem="patch", **settings):
    backbone = SiTBackbone(**NETWORK, dtype=dtype, stem=stem)
    model = SiTPretrainer(backbone, projection_dim=6, remat=remat, **settings)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    return model


def a_batch(random):
    return tf.constant(random.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "settings",
    [{}, {"dtype": "mixed_bfloat16"}, {"micro_batches": 2}, {"stem": "conv"}],
    ids=str,
)
def test_three_steps_end_in_the_same_weights_and_drop_the_same_paths(random, settings):
    plain, remat = new_model(False, **settings), new_model(True, **settings)
    remat.set_weights(plain.get_weights())
    images = a_batch(random)
    steps = [tf.function(model.train_step, autograph=False) for model in (plain, remat)]
    drawn = [plain.backbone.noise.state.numpy()]
    for _ in range(3):
        logs = [step(images) for step in steps]
        for name, value in logs[0].items():
            assert float(logs[1][name]) == pytest.approx(float(value), rel=1e-6), name
        drawn.append(plain.backbone.noise.state.numpy())
        assert tuple(drawn[-1]) != tuple(drawn[-2])
        np.testing.assert_array_equal(remat.backbone.noise.state, drawn[-1])
    for a, b in zip(plain.variables, remat.variables, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6, err_msg=a.path)


def operations(model, images):
    """Returns the types of the operations in the graph of a step."""
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(images).graph
    return [operation.type for operation in graph.get_operations()]


def num_products(model, images):
    """Counts the matrix products in the graph of a step."""
    return sum("MatMul" in name or name == "Einsum" for name in operations(model, images))


def test_every_block_is_computed_once_more(random):
    images = a_batch(random)
    plain, remat = (num_products(new_model(remat), images) for remat in (False, True))
    products = 6  # of a block: qkv, weights, values, projection, and two of the MLP
    assert remat - plain == products * NETWORK["num_layers"]


def test_a_stem_of_convolutions_is_computed_once_more(random):
    images = a_batch(random)
    plain, remat = (operations(new_model(remat, stem="conv"), images) for remat in (False, True))
    assert remat.count("Conv2D") - plain.count("Conv2D") == 2  # down to patches of 4 px


def test_remat_is_saved_with_the_pretrainer_but_not_with_its_backbone(random, tmp_path):
    model = new_model(True)
    model.train_on_batch(a_batch(random))
    model.save(tmp_path / "model.keras")
    model.backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    backbone = keras.saving.load_model(tmp_path / "backbone.keras")
    assert loaded.backbone.remat and not backbone.remat
    images = random.standard_normal((2, 8, 8, 3)).astype("float32")
    expected = model.backbone(images)
    for each in (loaded.backbone, backbone):
        for name, value in each(images).items():
            np.testing.assert_array_equal(value, expected[name])
