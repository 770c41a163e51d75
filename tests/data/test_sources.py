import numpy as np
import pytest
from PIL import Image

from sit_keras.data.reading import read_image
from sit_keras.data.sources import count_train_images, load_source

RED = np.full((10, 14, 3), (200, 30, 40), np.uint8)


def save(path, pixels=RED, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


# --- Reading --------------------------------------------------------------------------------------


def test_every_mode_becomes_rgb(tmp_path):
    rgb = Image.fromarray(RED)
    grey16 = Image.fromarray(np.full((10, 14), 257 * 99, np.uint16))
    clear = Image.new("RGBA", (14, 10), (9, 9, 9, 0))
    palette_clear = rgb.quantize(4)
    palette_clear.info["transparency"] = palette_clear.getpixel((0, 0))
    cases = {
        "rgb.png": (rgb, (200, 30, 40)),
        "grey.png": (Image.new("L", (14, 10), 77), (77, 77, 77)),
        "grey_alpha.png": (Image.new("LA", (14, 10), (77, 255)), (77, 77, 77)),
        "bits.png": (Image.new("1", (14, 10), 1), (255, 255, 255)),
        "grey16.png": (grey16, (99, 99, 99)),
        "palette.gif": (rgb.quantize(4), (200, 30, 40)),
        "palette_clear.png": (palette_clear, (255, 255, 255)),
        "clear.png": (clear, (255, 255, 255)),
        "cmyk.jpg": (rgb.convert("CMYK"), (200, 30, 40)),
        "photo.bmp": (rgb, (200, 30, 40)),
        "photo.webp": (rgb, (200, 30, 40)),
        "photo.tiff": (rgb, (200, 30, 40)),
    }
    for name, (image, colour) in cases.items():
        image.save(tmp_path / name)
        pixels = read_image(tmp_path / name)
        assert pixels.shape == (10, 14, 3) and pixels.dtype == np.uint8, name
        assert np.abs(pixels.astype(int) - colour).max() <= 8, name


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255
    save(tmp_path / "a.png", pixels, exif=exif)
    upright = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(upright, np.rot90(pixels, -1))


@pytest.mark.parametrize("name", ["big.jpg", "big.png"])
def test_a_large_image_is_read_smaller(tmp_path, name):
    save(tmp_path / name, np.repeat(np.repeat(RED, 40, 0), 40, 1))  # 400 x 560
    assert read_image(tmp_path / name).shape == (400, 560, 3)
    small = read_image(tmp_path / name, enough=90)
    assert 90 <= small.shape[0] <= 140
    assert small.shape[1] / small.shape[0] == pytest.approx(1.4, abs=0.02)
    assert np.abs(small.astype(int) - RED[0, 0]).max() <= 8
    assert read_image(tmp_path / name, enough=250).shape == (400, 560, 3)


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
