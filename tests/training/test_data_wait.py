"""The time that steps wait for their images."""

import time

import numpy as np
import pytest
import tensorflow as tf

from sit_keras.training.data_wait import DataWait

SLOW = 0.05  # seconds an element takes


def slow(number):
    return tf.numpy_function(lambda x: (time.sleep(SLOW), x)[1], [number], tf.int64)


def read(pause):
    wait, seen = DataWait(), []
    for value in wait.watched(tf.data.Dataset.range(8).map(slow).prefetch(2)):
        seen.append(int(value))
        time.sleep(pause)
    assert seen == list(range(8))
    return wait.seconds


def test_a_fast_reader_waits_for_all_and_a_slow_one_for_the_first():
    waited = read(0.0)
    assert waited > 7 * SLOW
    assert read(4 * SLOW) < waited / 2


@pytest.mark.parametrize("pairs", [False, True])
def test_the_elements_stay_what_they_are(pairs):
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    dataset = tf.data.Dataset.from_tensor_slices((images, images) if pairs else images)
    watched = DataWait().watched(dataset)
    assert watched.element_spec == dataset.element_spec and len(watched) == 4
    for before, after in zip(dataset, watched, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, before, after)
