import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.seeding import seeded
from sit_keras.training.pretrainer import SiTPretrainer


def build():
    """A network with every kind of weight, the generators of its noise among them."""
    backbone = SiTBackbone(
        image_shape=(16, 16, 3), patch_size=4, hidden_dim=24, num_layers=2, num_heads=2, mlp_dim=32
    )
    return SiTPretrainer(backbone, projection_dim=8)


def values(model):
    return {v.path: np.array(v) for v in model.variables}


def draw():
    """The next numbers of every stream that a user may share with the package."""
    return (
        random.random(),
        float(np.random.random()),
        float(keras.random.uniform(())),
        float(tf.random.uniform(())),
        float(keras.initializers.RandomUniform()(())),
    )


def test_the_seed_decides_the_first_weights():
    models = []
    for seed in (1, 1, 2):
        with seeded(seed):
            models.append(values(build()))
    first, same, other = models
    assert first.keys() == same.keys() == other.keys()
    assert all((first[path] == same[path]).all() for path in first)
    kernels = [path for path in first if path.endswith("kernel")]
    assert len(kernels) > 8 and all((first[path] != other[path]).any() for path in kernels)


def test_first_weights_are_those_that_follow_keras_global_seed():
    with seeded(3):
        inside = values(build())
    keras.utils.set_random_seed(3)
    globally = values(build())
    assert all((inside[path] == globally[path]).all() for path in inside)


@pytest.mark.parametrize("before", [0, 1])
def test_the_random_streams_of_the_caller_go_on_as_if_nothing_had_happened(before):
    def streams(build_between):
        keras.utils.set_random_seed(7)
        drawn = [draw() for _ in range(before)]
        if build_between:
            with seeded(3):
                build()
        return drawn + [draw() for _ in range(3)]

    assert streams(True) == streams(False)


def test_the_state_of_the_caller_comes_back_after_an_error():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with pytest.raises(RuntimeError), seeded(3):
        build()
        raise RuntimeError
    assert random.random() == expected


def test_seeded_blocks_can_be_nested():
    with seeded(1):
        alone = values(build())
    with seeded(1):
        with seeded(2):
            build()
        nested = values(build())
    assert all((alone[path] == nested[path]).all() for path in alone)
