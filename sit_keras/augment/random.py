"""Random numbers that are a pure function of (seed, step, stream, position, index).

Threefry-2x32 in 32-bit integers, so the numbers are equal to the bit on every backend of Keras,
eagerly, in a graph and under XLA, and any of them can be drawn again. TensorFlow's and Keras' own
generators give other numbers eagerly than under XLA.

Shapes: B positions in a batch, n numbers for each.

Reference:
    Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3.
"""

import itertools
import statistics

from keras import ops

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF
# Of the table that turns bits into normal numbers.
_QUANTILE_BITS = 12


def _word(value: int):
    # A Python number would be promoted to another type.
    return ops.convert_to_tensor(value & _WORD, dtype="uint32")


def threefry_2x32(key, counter, rounds: int = 20):
    """Encrypts pairs of 32-bit words.

    Args:
        key: pair of uint32 tensors.
        counter: pair of uint32 tensors, which broadcast with the key.
        rounds: int. A multiple of 4; 20 is the published number.

    Returns:
        A pair of uint32 tensors.
    """
    turns = {turn: (_word(turn), _word(32 - turn)) for turn in itertools.chain(*_ROTATIONS)}
    keys = (*key, ops.bitwise_xor(ops.bitwise_xor(*key), _word(_PARITY)))
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(rounds // 4):
        for turn in _ROTATIONS[block % 2]:
            first = first + second
            left, right = turns[turn]
            second = ops.bitwise_or(ops.left_shift(second, left), ops.right_shift(second, right))
            second = ops.bitwise_xor(second, first)
        first = first + keys[(block + 1) % 3]
        second = second + keys[(block + 2) % 3] + _word(block + 1)
    return first, second


def seed_words(seed: int):
    """Returns the lowest 64 bits of a seed as (2,) uint32, the lower half first."""
    return ops.convert_to_tensor([seed & _WORD, seed >> 32 & _WORD], dtype="uint32")


def random_bits(seed, step, stream: int, positions, count: int):
    """Returns uniformly distributed bits.

    Args:
        seed: int, whose lowest 64 bits count, or a tensor of `seed_words`.
        step: int or scalar integer tensor. The lowest 32 bits count.
        stream: int. A number for each purpose, so that those of one step are independent.
        positions: (B,) integer tensor. Where each image stands in the global batch.
        count: int. n.

    Returns:
        (B, n) uint32.
    """
    step = ops.cast(step, "uint32") if ops.is_tensor(step) else _word(step)
    words = seed if ops.is_tensor(seed) else seed_words(seed)
    key = threefry_2x32((words[0], words[1]), (step, _word(stream)))
    half = (count + 1) // 2
    position = ops.cast(positions, "uint32")[:, None]  # (B, 1)
    index = ops.cast(ops.arange(half, dtype="int32"), "uint32")[None]  # (1, n / 2)
    words = threefry_2x32(key, (position, index))
    return ops.concatenate(words, axis=1)[:, :count]


def uniform(bits):
    """Returns numbers uniform in [0, 1), which float32 holds exactly, of uint32 bits."""
    return ops.cast(ops.right_shift(bits, _word(8)), "float32") * 2.0**-24


def normal(bits):
    """Returns two standard normal numbers for each word of bits, by a table of 4,096 quantiles.

    A formula such as Box-Muller's would be rounded otherwise by each compiler. The table's largest
    number is 3.67.

    Args:
        bits: (B, n) uint32.

    Returns:
        (B, 2 n) float32.
    """
    low = ops.bitwise_and(bits, _word((1 << _QUANTILE_BITS) - 1))
    high = ops.right_shift(bits, _word(32 - _QUANTILE_BITS))
    chosen = ops.cast(ops.concatenate([low, high], axis=-1), "int32")
    return ops.take(ops.convert_to_tensor(_QUANTILES, dtype="float32"), chosen, axis=0)


def _quantiles():
    count = 1 << _QUANTILE_BITS
    values = [statistics.NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)]
    deviation = statistics.pstdev(values, 0.0)
    return tuple(value / deviation for value in values)


_QUANTILES = _quantiles()
