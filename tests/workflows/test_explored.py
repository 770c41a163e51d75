"""The images of a run for its report: what they are called, and how large they are shown."""

import numpy as np
import pytest

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.record_address import RecordAddress
from sit_keras.models.backbone import SiTBackbone
from sit_keras.workflows.explored import image_name, pixels_of


def images_of(*paths):
    return ImageSet(np.array(paths), np.zeros(len(paths), int))


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("/home/ann/photos/cat/1.jpg", "/home/ann/photos", "cat/1.jpg"),
        ("/home/ann/photos/1.jpg", "/home/ann/photos/", "1.jpg"),
        ("/home/ann/other/1.jpg", "/home/ann/photos", "1.jpg"),
        ("/home/ann/photos/1.jpg", None, "1.jpg"),
        (str(RecordAddress("/home/ann/packed/0.tfrecord", 12, 5, 7)), "/home/ann/packed",
         "0.tfrecord, byte 12"),
    ],
)  # fmt: skip
def test_an_image_is_called_by_its_path_within_the_data_set(path, folder, name):
    assert image_name(images_of(path), 0, folder) == name


def test_an_image_in_memory_has_no_name():
    images = ImageSet(np.zeros((1, 8, 8, 3), "uint8"), np.zeros(1, int))
    assert image_name(images, 0, None) == ""


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_larger_than_the_network_takes_them_and_not_normalised(channels):
    encoder = SiTBackbone(
        image_shape=(8, 16, channels), patch_size=4, hidden_dim=16, num_layers=1, num_heads=2,
        mlp_dim=16, preprocessing=PreprocessingConfig(1.0, (0.5,) * channels, (0.2,) * channels),
    )  # fmt: skip
    items = np.full((2, 20, 40, channels), 51, "uint8")
    shown = pixels_of(ImageSet(items, np.zeros(2, int)), encoder, 64)
    assert shown.shape == (2, 32, 64, channels)
    np.testing.assert_allclose(shown, 0.2, atol=1e-5)


def test_a_padded_image_is_shown_whole_with_bars_of_the_mean_colour():
    encoder = SiTBackbone(
        image_shape=(8, 8, 3), patch_size=4, hidden_dim=16, num_layers=1, num_heads=2,
        mlp_dim=16, preprocessing=PreprocessingConfig(mean=(0.5, 0.25, 0.75), fit="pad"),
    )  # fmt: skip
    items = np.full((1, 20, 40, 3), 51, "uint8")
    (shown,) = pixels_of(ImageSet(items, np.zeros(1, int)), encoder, 64)
    assert shown.shape == (64, 64, 3)
    np.testing.assert_allclose(shown[16:48], 0.2, atol=1e-5)
    np.testing.assert_allclose(
        shown[[0, -1]], np.broadcast_to((0.5, 0.25, 0.75), (2, 64, 3)), atol=1e-5
    )
