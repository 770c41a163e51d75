"""Batches that are smaller than the others: what counts, what is compared, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.config.settings import CorruptionConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.pretrainer import SiTPretrainer

WAYS = {"graph": {"jit_compile": False}, "eager": {"jit_compile": False, "run_eagerly": True}}
OF_PAIRS = ("loss", "contrastive", "contrastive_accuracy")
slices = tf.data.Dataset.from_tensor_slices


def compiled(way="eager", **settings):
    keras.utils.set_random_seed(1)
    backbone = SiTBackbone((8, 8, 3), 4, 12, 1, 2, 12, drop_path_rate=0.0)
    corruption = CorruptionConfig(grey=False, blur=False)
    model = SiTPretrainer(backbone, projection_dim=8, corruption=corruption, **settings)
    model.compile(keras.optimizers.SGD(0.0), **WAYS[way])
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 10, 10, 3), dtype=np.uint8)


def losses_of(model, batches, validation):
    """What each batch has alone."""
    found = []
    for step, batch in enumerate(batches):
        views = model.make_views(tf.constant(batch), tf.constant(step, tf.int64), validation)
        losses, accuracies = model.objective.losses(views)
        found.append({"loss": model.weighting(losses), **losses, **accuracies})
    return found


def of_evaluation(model, images):
    return model.evaluate(images, batch_size=8, verbose=0, return_dict=True)


def of_training(model, images):
    history = model.fit(images, batch_size=8, shuffle=False, verbose=0).history
    return {name: values[0] for name, values in history.items()}


@pytest.mark.parametrize("measure", [of_evaluation, of_training])
@pytest.mark.parametrize("way", WAYS)
def test_a_short_last_batch_counts_by_its_images(images, way, measure):
    model = compiled(way)
    batches = images[:8], images[8:11]
    whole, rest = losses_of(model, batches, measure is of_evaluation)
    found = measure(model, images[:11])
    for name in found:
        expected = (8 * float(whole[name]) + 3 * float(rest[name])) / 11
        assert found[name] == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("measure", [of_evaluation, of_training])
@pytest.mark.parametrize("way", WAYS)
def test_an_image_left_over_counts_only_where_it_is_not_compared(images, way, measure):
    """Alone it would have a contrastive loss of 0 and an accuracy of 100 %."""
    model = compiled(way)
    batches = images[:8], images[8:9]
    whole, rest = losses_of(model, batches, measure is of_evaluation)
    assert float(rest["contrastive_accuracy"]) == 1
    found = measure(model, images[:9])
    for name in found:
        both = (8 * float(whole[name]) + float(rest[name])) / 9
        expected = float(whole[name]) if name in OF_PAIRS else both
        assert found[name] == pytest.approx(expected, rel=1e-5), name


def test_an_image_left_over_counts_for_tasks_without_comparisons(images):
    model = compiled(tasks=("rotation",))
    whole, rest = losses_of(model, (images[:8], images[8:9]), True)
    found = of_evaluation(model, images[:9])
    expected = (8 * float(whole["loss"]) + float(rest["loss"])) / 9
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: model.fit(x, batch_size=1, verbose=0),
        lambda model, x: model.fit(slices(x).batch(1), verbose=0),
        lambda model, x: model.fit(slices(x).batch(1, drop_remainder=True), verbose=0),
        lambda model, x: model.fit(x[i : i + 1] for i in range(4)),
        lambda model, x: model.fit(x, validation_data=x[:1], verbose=0),
        lambda model, x: model.evaluate(x[:1], verbose=0),
        lambda model, x: model.train_on_batch(x[:1]),
        lambda model, x: model.test_on_batch(x[:1]),
    ],
)
def test_a_first_batch_of_one_image_is_refused(images, call):
    model = compiled("graph")
    with pytest.raises(ValueError, match="at least 2 images"):
        call(model, images)
    assert int(model.step) == 0


def test_one_image_may_teach_rotation_alone(images):
    logs = compiled(tasks=("rotation",)).evaluate(images[:1], verbose=0, return_dict=True)
    assert logs["loss"] > 0
