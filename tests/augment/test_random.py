"""Random numbers by Threefry: known answers, and the same bits wherever they are drawn."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from sit_keras.augment.random import normal, random_bits, threefry_2x32, uniform

# (key, counter, result) of 20 rounds, from Random123's own table of known answers.
KNOWN_ANSWERS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "expected"), KNOWN_ANSWERS)
def test_threefry_gives_the_known_answers_of_random123(key, counter, expected):
    key, counter = (tuple(np.uint32(word) for word in pair) for pair in (key, counter))
    assert tuple(int(word) for word in threefry_2x32(key, counter)) == expected


def slow_bits(seed, step, stream, position, index, half):
    """One word by whole numbers of Python, in the order that `random_bits` has them in."""

    def encrypt(key, counter):
        mask = 0xFFFFFFFF
        keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
        x, y = ((c + k) & mask for c, k in zip(counter, keys, strict=False))
        for block in range(5):
            for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
                x = (x + y) & mask
                y = ((y << turn | y >> (32 - turn)) & mask) ^ x
            x = (x + keys[(block + 1) % 3]) & mask
            y = (y + keys[(block + 2) % 3] + block + 1) & mask
        return x, y

    key = encrypt((seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF), (step, stream))
    return encrypt(key, (position, index % half))[index // half]


@pytest.mark.parametrize("count", [1, 6, 7])
def test_bits_are_a_function_of_seed_step_stream_position_and_index(count):
    positions = np.array([0, 5, 70_000])
    bits = np.asarray(random_bits(2**40 + 3, 12, 2, positions, count))
    half = (count + 1) // 2
    for row, position in zip(bits, positions, strict=True):
        expected = [slow_bits(2**40 + 3, 12, 2, int(position), i, half) for i in range(count)]
        assert row.tolist() == expected


def test_bits_are_equal_eagerly_in_a_graph_and_under_xla():
    def draw(step):
        return random_bits(7, step, 3, tf.range(5), 9)

    eager = draw(11).numpy()
    for compiled in (False, True):
        function = tf.function(draw, jit_compile=compiled, autograph=False)
        np.testing.assert_array_equal(function(tf.constant(11, tf.int64)), eager)


def test_uniform_numbers_are_exact_and_uniform():
    values = np.asarray(uniform(random_bits(0, 0, 0, np.arange(100), 1000))).ravel()
    assert values.min() >= 0 and values.max() < 1
    assert (values * 2**24 == np.round(values * 2**24)).all()
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_normal_numbers_have_the_moments_of_a_normal_distribution():
    bits = random_bits(1, 2, 3, np.arange(100), 2000)
    values = np.asarray(normal(bits)).ravel()
    assert len(values) == 100 * 4000
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.01)
    assert stats.skew(values) == pytest.approx(0, abs=0.02)
    assert stats.kurtosis(values) == pytest.approx(0, abs=0.05)
    first, second = np.split(np.asarray(normal(bits)), 2, axis=1)  # of the two halves of a word
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("changed", ["seed", "step", "stream", "position"])
def test_numbers_of_another_seed_step_stream_or_position_are_independent(changed):
    place = {"seed": 3, "step": 4, "stream": 1, "position": 6}
    values = []
    for difference in (0, 1):
        seed, step, stream, position = {**place, changed: place[changed] + difference}.values()
        values.append(np.asarray(uniform(random_bits(seed, step, stream, [position], 4000)))[0])
    assert (values[0] != values[1]).mean() > 0.99
    assert np.corrcoef(*values)[0, 1] == pytest.approx(0, abs=0.06)
