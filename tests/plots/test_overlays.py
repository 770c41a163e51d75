"""Maps of patches over images."""

import numpy as np
import pytest

from sit_keras.plots.overlays import enlarged, over_image, spread_out


def test_a_map_is_scaled_from_its_own_least_to_its_own_greatest_value():
    np.testing.assert_allclose(spread_out(np.array([[0.20, 0.21], [0.22, 0.24]])),
                               [[0, 0.25], [0.5, 1]], atol=1e-5)  # fmt: skip
    assert (spread_out(np.full((2, 2), 0.25)) == 0).all()


def test_a_map_is_interpolated_between_the_centres_of_its_patches():
    large = enlarged(np.array([[0.0, 1.0]], "float32"), (1, 4))
    np.testing.assert_allclose(large, [[0, 0.25, 0.75, 1]], atol=1e-6)
    assert enlarged(np.zeros((2, 3, 3), "float32"), (8, 12)).shape == (8, 12, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_most_attended_patch_is_the_brightest(channels):
    pixels = np.full((8, 8, channels), 0.4, "float32")
    weights = np.zeros((2, 2), "float32")
    weights[1, 0] = 0.01
    shown = over_image(pixels, weights)
    assert shown.shape == (8, 8, 3) and 0 <= shown.min() and shown.max() <= 1
    brightness = shown.sum(axis=-1)
    assert np.unravel_index(brightness.argmax(), (8, 8)) in {(6, 0), (7, 0), (6, 1), (7, 1)}
    assert brightness[7, 0] > brightness[0, 7] + 1
