import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from sit_keras.data.folder import load_folder
from sit_keras.data.images import ImageSet
from sit_keras.data.reading import read_image
from sit_keras.data.sources import count_train_images, load_source
from sit_keras.data.splits import hold_out

RED = np.full((10, 14, 3), (200, 30, 40), np.uint8)


def save(path, pixels=RED, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


# --- Folders --------------------------------------------------------------------------------------


def test_sub_folders_are_classes(tmp_path):
    for name in ("cat/1.jpg", "cat/deep/2.png", "dog/3.jpeg", "dog/notes.txt", "dog/.4.jpg"):
        save(tmp_path / name, format="png")
    train, test = load_folder(tmp_path, strict=True)
    assert train.class_names == ("cat", "dog") and test is None
    assert [pathlib.Path(p).name for p in train.items] == ["1.jpg", "2.png", "3.jpeg"]
    assert train.labels.tolist() == [0, 0, 1]
    assert count_train_images(f"folder:{tmp_path}") == (3, 3)


@pytest.mark.parametrize("names", [("1.jpg", "2.jpg"), ("1.jpg", "cat/2.jpg"), ("all/1.jpg",)])
def test_images_without_classes(tmp_path, names):
    for name in names:
        save(tmp_path / name)
    train, _ = load_folder(tmp_path, strict=True)
    assert train.class_names == () and (train.labels == -1).all() and len(train) == len(names)
    assert count_train_images(f"folder:{tmp_path}") == (len(names), 0)


def test_train_and_val_are_splits(tmp_path):
    for name in ("train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "val/b/4.jpg"):
        save(tmp_path / name)
    train, test = load_folder(tmp_path, strict=True)
    assert len(train) == 2 and test.labels.tolist() == [0, 1]
    shutil.rmtree(tmp_path / "val" / "b")
    save(tmp_path / "val" / "c" / "5.jpg")
    with pytest.raises(ValueError, match=r"classes of .*val \(a, c\) are not those of .*\(a, b\)"):
        load_folder(tmp_path, strict=True)


@pytest.fixture
def folder_with_broken_files(tmp_path, random):
    for i in range(4):
        pixels = random.integers(0, 256, (60, 60, 3), dtype=np.uint8)
        save(tmp_path / f"good_{i}.jpg", pixels)
        save(tmp_path / f"cut_{i}.png", pixels)
    for i in range(2):
        whole = (tmp_path / f"cut_{i}.png").read_bytes()
        (tmp_path / f"cut_{i}.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    return tmp_path


def test_broken_files_are_named_counted_and_skipped(folder_with_broken_files, caplog):
    train, _ = load_folder(folder_with_broken_files, strict=False)
    assert len(train) == 6
    message = caplog.text
    assert "4 of 10 files" in message and "--strict" in message
    for name in ("cut_0.png", "cut_1.png", "empty.png", "text.jpg"):
        assert name in message
    assert "good_0" not in message and "cut_2" not in message


def test_broken_files_are_refused_if_strict(folder_with_broken_files):
    with pytest.raises(ValueError, match=r"4 of 10 files(.|\n)*cut_0.png(.|\n)*without --strict"):
        load_folder(folder_with_broken_files, strict=True)


def test_folders_without_images(tmp_path):
    with pytest.raises(ValueError, match="No folder .*nowhere"):
        load_source(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match="No image in"):
        load_source(f"folder:{tmp_path}")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match="No image is left"):
        load_source(f"folder:{tmp_path}")


# --- Splits and labels ----------------------------------------------------------------------------


def test_hold_out_is_stratified_and_disjoint():
    labels = np.repeat([0, 1, 2, -1], [40, 40, 20, 100])
    images = ImageSet(np.array([f"{i}" for i in range(200)]), labels, ("a", "b", "c"))
    kept, held = hold_out(images, 0.1, seed=1)
    assert sorted([*kept.items, *held.items]) == sorted(images.items)
    assert np.bincount(held.labels).tolist() == [4, 4, 2]
    again = hold_out(images, 0.1, seed=1)[1]
    np.testing.assert_array_equal(held.items, again.items)
    assert (held.items != hold_out(images, 0.1, seed=2)[1].items).any()
    assert len(hold_out(images, 0.0, seed=1)[1]) == 0


def test_hold_out_of_unlabelled_images():
    images = ImageSet(np.array([f"{i}" for i in range(20)]), np.full(20, -1))
    kept, held = hold_out(images, 0.25, seed=0)
    assert (len(kept), len(held)) == (15, 5)


def test_unlabelled_images_are_no_classes():
    images = ImageSet(np.array(["a", "b", "c"]), np.array([0, -1, 1]), ("x", "y"))
    with pytest.raises(ValueError, match=r"1 of 3 images have no label \(-1\)"):
        images.class_labels()
    assert images.labelled().class_labels().tolist() == [0, 1]


# --- Named data sets ------------------------------------------------------------------------------


def test_digits():
    source = load_source("digits")
    assert source.train.items.shape == (1437, 8, 8, 3) and len(source.test) == 360
    assert count_train_images("digits") == (1437, 1437)
    assert source.train.items.max() == 255
    assert np.bincount(source.test.labels).min() >= 34
    train = {image.tobytes() for image in source.train.items}
    assert sum(image.tobytes() in train for image in source.test.items) == 0


def test_unknown_and_missing_data_sets(tmp_path):
    with pytest.raises(ValueError, match="Unknown dataset 'mnist': choose one of digits, cifar10"):
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
    assert count_train_images(name, real_images / "tfds") == (train, labelled)
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
