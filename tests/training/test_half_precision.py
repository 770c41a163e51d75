"""The precision of a model is that of its backbone, whatever the process computes in."""

import keras
import numpy as np
import pytest

from sit_keras.config.settings import CorruptionConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.precision import precision
from sit_keras.training.pretrainer import SiTPretrainer

EAGER = {"run_eagerly": True, "jit_compile": False}


def build_backbone(dtype=None):
    return SiTBackbone((8, 8, 3), 4, 8, 1, 2, 12, drop_path_rate=0.0, dtype=dtype)


def build_classifier(dtype=None):
    return SiTImageClassifier(build_backbone(dtype), 3)


def build_pretrainer(dtype=None):
    settings = {"corruption": CorruptionConfig(grey=False, blur=False), "projection_dim": 4}
    return SiTPretrainer(build_backbone(dtype), **settings)


BUILD = {"classifier": build_classifier, "pretrainer": build_pretrainer}


def scales(model):
    return isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def fit(model, images):
    labels = [np.arange(len(images)) % 3] if isinstance(model, SiTImageClassifier) else []
    return model.fit(images, *labels, batch_size=4, shuffle=False, verbose=0).history["loss"][0]


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_loss_is_scaled_where_the_backbone_computes_in_float16(kind, dtype):
    for around in ("float32", "mixed_float16"):
        with precision(around):
            model = BUILD[kind](dtype)
            model.compile(**EAGER)
        assert scales(model) == (dtype == "mixed_float16"), around


@pytest.mark.parametrize("kind", BUILD)
def test_a_model_of_a_float16_process_goes_on_in_one_of_float32(kind, random, tmp_path):
    images = random.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    with precision("mixed_float16"):
        model = BUILD[kind]()
        model.compile(**EAGER)
        assert np.isfinite(fit(model, images))
        model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert scales(model) and scales(loaded)
    assert loaded.backbone.compute_dtype == "float16"
    for one, other in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    losses = [fit(each, images) for each in (model, loaded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_loss_that_shall_not_be_scaled_is_not_after_loading_either(tmp_path):
    model = build_classifier("mixed_float16")
    model.compile(auto_scale_loss=False, **EAGER)
    model.save(tmp_path / "model.keras")
    assert not scales(model) and not scales(keras.saving.load_model(tmp_path / "model.keras"))


def test_the_losses_of_pretraining_stay_float32(random):
    model = build_pretrainer("mixed_float16")
    views = model.make_views(random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8), 0)
    losses, _ = model.objective.losses(views, training=True)
    assert {loss.dtype.name for loss in losses.values()} == {"float32"}
    assert model.weighting(losses).dtype == "float32"


@pytest.mark.parametrize("kind", BUILD)
def test_pixels_are_not_rounded_before_they_are_normalised(kind, random):
    """With 11 bits there is no number between 200 and 200.125."""
    images = (200 + 0.12 * random.random((2, 8, 8, 3))).astype("float32")
    model = BUILD[kind]("mixed_float16")
    seen = []
    layer = model.preprocessing if kind == "pretrainer" else model.get_layer("preprocessing")
    call = layer.call
    layer.call = lambda x: seen.append(np.array(x)) or call(x)
    model(images)
    np.testing.assert_array_equal(seen[0], images)
