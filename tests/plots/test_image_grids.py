"""Grids of images, as they are drawn."""

import numpy as np
import pytest

from sit_keras.plots import image_grids


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, which are not written to files."""
    figures = []
    monkeypatch.setattr(image_grids, "save_figure", lambda figure, path: figures.append(figure))
    return figures


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_grey_images_and_what_is_restored_of_them_keep_their_brightness(channels, drawn):
    """Images of few values, which would be spread from black to white."""
    image = np.full((4, 4, channels), 51, np.uint8)
    image[0, 0] = 102
    restored = np.full((2, 2, channels), 0.2, np.float32)
    restored[0, 0] = 0.4
    image_grids.outlier_sheet([image], [restored], ["a"], "unused.png")
    (figure,) = drawn
    for cell in figure.axes:
        (shown,) = cell.images
        colours = shown.to_rgba(shown.get_array(), norm=True)[..., :3]
        if shown.get_array().dtype == np.uint8 and colours.max() > 1:
            colours = colours / 255
        np.testing.assert_allclose(colours[1, 1], 0.2, atol=0.003)
        np.testing.assert_allclose(colours[0, 0], 0.4, atol=0.003)
