import numpy as np
import pytest

from sit_keras.data.reading import read_image
from sit_keras.data.sources import load_source, survey_source


def test_digits():
    source = load_source("digits")
    assert source.train.items.shape == (1437, 8, 8, 3) and len(source.test) == 360
    assert survey_source("digits")[:2] == (1437, 1437)
    assert source.train.items.max() == 255
    assert np.bincount(source.test.labels).min() >= 34
    train = {image.tobytes() for image in source.train.items}
    assert sum(image.tobytes() in train for image in source.test.items) == 0


def test_unknown_and_missing_data_sets(tmp_path):
    with pytest.raises(
        ValueError, match="Unknown dataset 'mnist': choose one of digits, translated_"
    ):
        load_source("mnist", tmp_path)
    with pytest.raises(ValueError, match=r"cifar10 is not prepared in .*--download"):
        load_source("cifar10", tmp_path)
    with pytest.raises(ValueError, match=r"put tiny-imagenet-200 .*into"):
        load_source("tiny_imagenet", tmp_path)


@pytest.mark.parametrize(
    ("name", "train", "labelled", "test", "size"),
    [("cifar100", 3000, 3000, 1000, 32), ("stl10", 1200, 500, 400, 96)],
)
def test_tfds(real_images, name, train, labelled, test, size):
    source = load_source(name, real_images / "tfds")
    assert source.train.items.shape == (train, size, size, 3)
    assert survey_source(name, real_images / "tfds")[:2] == (train, labelled)
    assert len(source.test) == test and source.test.class_labels().min() == 0


def test_stl10_pretrains_on_both_splits(real_images):
    train = load_source("stl10", real_images / "tfds").train
    assert len(train.labelled()) == 500 and (train.labels == -1).sum() == 700
    with pytest.raises(ValueError, match="700 of 1200 images have no label"):
        train.class_labels()


def test_tiny_imagenet_from_the_original_folder(real_images, tmp_path):
    (tmp_path / "tiny-imagenet-200").symlink_to(real_images / "tiny-imagenet-200")
    source = load_source("tiny_imagenet", tmp_path)
    assert source.train.items.shape == (480, 64, 64, 3)
    assert np.bincount(source.train.labels).tolist() == [60] * 8
    assert len(source.test) == 160 and np.bincount(source.test.labels).min() > 0
    first = source.train.class_names[source.train.labels[0]]
    folder = real_images / "tiny-imagenet-200" / "train" / first / "images"
    assert any((read_image(p) == source.train.items[0]).all() for p in folder.iterdir())
    (tmp_path / "tiny-imagenet-200").unlink()  # once prepared, the original is not needed
    assert len(load_source("tiny_imagenet", tmp_path).train) == 480


def test_photos(real_images):
    source = load_source(f"folder:{real_images / 'photos'}", strict=True)
    assert (len(source.train), len(source.test)) == (240, 90)
    assert len(source.train.class_names) == 6
