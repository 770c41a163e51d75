"""Images of mixed sizes, cropped for `SiTPretrainer.fit`."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from sit_keras.config.settings import CorruptionConfig
from sit_keras.data.mixed_sizes import pair_crops
from sit_keras.data.single_crops import cut_crops
from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.pretrainer import SiTPretrainer


def new_model():
    backbone = SiTBackbone((16, 16, 3), 8, 24, 1, 2, 24)
    # Crops are what is tested here.
    corruption = CorruptionConfig(grey=False, blur=False, drop=0.0, replace=0.0)
    model = SiTPretrainer(backbone, projection_dim=8, corruption=corruption)
    model.compile("sgd", jit_compile=False)
    return model


def photos(random, channels=3):
    sizes = [(20, 31), (18, 18), (40, 22), (17, 50), (16, 16), (25, 19), (33, 33), (20, 20), (9, 9)]
    images = [random.integers(0, 256, (*size, channels), dtype=np.uint8) for size in sizes]
    signature = tf.TensorSpec((None, None, channels), tf.uint8)
    return images, tf.data.Dataset.from_generator(lambda: images, output_signature=signature)


def crops_of(model, image, step, position):
    drawn = model.two_views.draw_crops(*image.shape[:2], step, position)
    return cut_crops(image, *drawn, 16)


def test_crops_follow_the_step_of_the_model_from_epoch_to_epoch(random):
    model, (images, dataset) = new_model(), photos(random)
    crops = pair_crops(dataset, model, batch_size=4)
    first = list(crops)
    assert [batch.shape for batch in first] == [(4, 2, 16, 16, 3)] * 2
    for step, batch in enumerate(first):
        for position, pair in enumerate(batch):
            made = crops_of(model, images[4 * step + position], step, position)
            np.testing.assert_array_equal(pair, made)
    for a, b in zip(first, crops, strict=True):
        np.testing.assert_array_equal(a, b)  # no step was taken in between
    model.fit(crops, epochs=1, verbose=0)
    assert int(model.step) == 2
    second = list(crops)
    np.testing.assert_array_equal(second[0][0], crops_of(model, images[0], 2, 0))
    assert (np.array(first) != np.array(second)).any()


def test_every_epoch_of_one_fit_sees_other_crops(random):
    model, (_, dataset) = new_model(), photos(random)
    seen, make = [], model.make_views

    def record(data, step, validation=False):
        tf.py_function(lambda x: seen.append(x.numpy()), [data], [])
        return make(data, step, validation)

    model.make_views = record
    model.fit(pair_crops(dataset, model, batch_size=4), epochs=3, verbose=0)
    epochs = np.array(seen).reshape(3, 2, 4, 2, 16, 16, 3)
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()


def test_a_model_is_fitted_on_images_of_one_size_and_on_crops_in_turn(random):
    """Keras keeps the step that it has traced, which knows the rank of what came first."""
    model, (_, dataset) = new_model(), photos(random)
    images = random.integers(0, 256, (8, 20, 20, 3), dtype=np.uint8)
    crops = pair_crops(dataset, model, batch_size=4)
    for data in (images, crops, images):
        model.fit(data, batch_size=4 if data is images else None, verbose=0)
        if data is crops:
            assert np.isfinite(model.evaluate(images, verbose=0, return_dict=True)["loss"])
    assert int(model.step) == 6


def test_crops_of_validation_are_the_same_each_time_and_never_those_of_training(random):
    model, (images, dataset) = new_model(), photos(random)
    model.optimizer.learning_rate = 0.0
    training = pair_crops(dataset, model, batch_size=4)
    validation = pair_crops(dataset, model, batch_size=4, validation=True)
    seen = np.array(list(validation))
    assert (seen != np.array(list(training))).mean() > 0.5
    history = model.fit(training, validation_data=validation, epochs=2, verbose=0).history
    assert history["val_loss"][0] == history["val_loss"][1]
    np.testing.assert_array_equal(seen, list(validation))
    drawn_next = dataclasses.replace(model.two_views, seed=model.two_views.seed + 1)
    drawn = drawn_next.draw_crops(*images[5].shape[:2], 1, 1)  # of the second batch the second
    np.testing.assert_array_equal(seen[1, 1], cut_crops(images[5], *drawn, 16))


def test_greyscale_photos_are_repeated_to_three_channels(random):
    model, (_, dataset) = new_model(), photos(random, channels=1)
    (batch, _) = pair_crops(dataset, model, batch_size=4)
    np.testing.assert_array_equal(batch[..., 0], batch[..., 2])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda x: x, "from_tensor_slices"),
        (lambda x: tf.data.Dataset.from_tensor_slices(x).batch(2), "go to `fit` as they are"),
        (lambda x: tf.data.Dataset.from_tensor_slices((x, [0] * 8)), "without labels"),
        (lambda x: tf.data.Dataset.from_tensor_slices(x[..., :2]), "1 channel.*received 2"),
    ],
)
def test_what_is_no_dataset_of_single_images_is_refused(dataset, message):
    images = np.zeros((8, 20, 20, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        pair_crops(dataset(images), new_model(), batch_size=4)
