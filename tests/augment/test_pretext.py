"""What the numbers drawn make of a view, worked out by hand."""

import numpy as np
import pytest

from sit_keras.augment import operations, pretext
from sit_keras.config.settings import CorruptionConfig, ViewConfig

NOTHING = {"grey": False, "blur": False, "drop": 0.0, "replace": 0.0, "colour": False}
# Brightness times 1.2, contrast and saturation as they are: 1 + 0.4 * (2 * u - 1).
BRIGHTER = [0.75, 0.5, 0.5, 0.0]


@pytest.mark.parametrize("turns", range(4))
def test_a_look_is_brighter_then_normalised_then_turned(random, turns):
    crops = random.uniform(size=(2, 8, 8, 3)).astype("float32")
    uniforms = np.array([[(turns + 0.5) / 4, *BRIGHTER]] * 2, "float32")
    clean, rotation = pretext.look(crops, uniforms, ViewConfig())
    assert np.asarray(rotation).tolist() == [turns, turns]
    expected = (np.clip(1.2 * crops, 0, 1) - operations.MEAN) / operations.STD
    expected = np.rot90(expected, -turns, axes=(1, 2))  # clockwise
    np.testing.assert_allclose(clean, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["grey", "blur", "drop", "replace", "colour", None])
def test_each_corruption_by_itself(random, kind):
    clean = random.normal(size=(8, 16, 16, 3)).astype("float32")
    uniforms = random.uniform(size=(8, pretext.CORRUPTION_NUMBERS)).astype("float32")
    noise = np.full_like(clean, 9.0)
    settings = dict(NOTHING)
    if kind is not None:
        settings[kind] = 0.3 if kind in ("drop", "replace") else True
    found = np.asarray(pretext.corrupt(clean, uniforms, noise, CorruptionConfig(**settings)))
    changed = (found != clean).any(axis=-1)
    if kind is None:
        assert not changed.any()
        return
    assert 0 < changed.mean() < 0.9
    if kind == "grey":
        grey = clean.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
        np.testing.assert_allclose(found[changed], grey[changed], atol=1e-6)
    if kind == "drop":
        assert (found[changed] == 9.0).all()
    if kind == "replace":
        # Every pixel is that of some view of the same side, in the same place.
        for number, row, column in np.argwhere(changed):
            others = clean[number % 2 :: 2, row, column]
            assert (found[number, row, column] == others).all(axis=-1).any()
