import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.data.reading import read_image
from sit_keras.data.record_address import RecordAddress
from sit_keras.data.sources import load_source, survey_source
from sit_keras.models.preprocessing import ImagePreprocessing

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("importlib_resources")
kinds = tfds.features


class SmallSet(tfds.core.GeneratorBasedBuilder):
    """Two grey images to train on and one to validate with, whose values are their class."""

    VERSION = tfds.core.Version("1.0.0")
    parts = {"picture": kinds.Image(shape=(4, 5, 1)), "kind": kinds.ClassLabel(names=["a", "b"])}
    keys = ("picture", "kind")
    splits = {"train": 2, "validation": 1}

    def _info(self):
        features = kinds.FeaturesDict(dict(self.parts))
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=self.keys)

    def _split_generators(self, dl_manager):
        return {name: self._examples(count) for name, count in self.splits.items()}

    def _generate_examples(self):
        raise NotImplementedError

    def _examples(self, count):
        for number in range(count):
            yield number, {name: self.value(kind, number) for name, kind in self.parts.items()}

    def value(self, kind, number):
        if isinstance(kind, kinds.ClassLabel):
            return number % 2
        if isinstance(kind, kinds.Image):
            shape = [side or 3 + number for side in kind.shape]
            return np.full(shape, number, kind.np_dtype)
        return number


class TwoPictures(SmallSet):
    """Two images in each example."""

    parts = {"left": kinds.Image(shape=(4, 4, 3)), "right": kinds.Image(shape=(4, 4, 3))}
    keys = None


class NumbersOnly(SmallSet):
    """No images."""

    parts = {"number": kinds.Scalar(np.int64)}
    keys = None


class MixedSizes(SmallSet):
    """Images of different sizes."""

    parts = {"picture": kinds.Image(shape=(None, None, 3))}
    keys = None


class TurnedPhotos(SmallSet):
    """JPEG files of different sizes as they are, the second of which lies on its side by EXIF."""

    parts = {
        "photo": kinds.Image(shape=(None, None, 3)),
        "kind": kinds.ClassLabel(names=["a", "b"]),
    }
    keys = None
    splits = {"train": 6, "test": 2}

    def value(self, kind, number):
        return photo(number) if isinstance(kind, kinds.Image) else number % 2


def photo(number):
    """A JPEG whose left half is dark, in a file in memory."""
    pixels = np.full((24, 16 + 8 * number, 3), 200, "uint8")
    pixels[:, : pixels.shape[1] // 2] = 20
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6 if number == 1 else 1
    Image.fromarray(pixels).save(file, "JPEG", exif=exif, quality=95)
    file.seek(0)
    return file


class WithoutTrain(SmallSet):
    """No split to train on, and no classes."""

    parts = {"picture": kinds.Image(shape=(4, 4, 3))}
    keys = None
    splits = {"one": 1, "two": 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (SmallSet, TwoPictures, NumbersOnly, MixedSizes, TurnedPhotos, WithoutTrain):
        builder(data_dir=folder).download_and_prepare()
    return folder


def test_images_and_classes_are_found_whatever_they_are_called(prepared, capsys):
    source = load_source("tfds:small_set", prepared)
    assert source.train.items.shape == (2, 4, 5, 3)  # grey becomes RGB
    assert sorted(source.train.items[:, 0, 0, 0]) == sorted(source.train.labels) == [0, 1]
    assert source.train.class_names == ("a", "b") and len(source.test) == 1
    line = "2 images (picture) of train, 2 classes (kind), 1 of validation to test"
    assert line in capsys.readouterr().out
    survey = survey_source("tfds:small_set", prepared)
    assert (survey.images, survey.labelled) == (2, 2) and line in survey.text


@pytest.mark.parametrize(
    ("address", "count"),
    [("small_set:train[:1]", 1), ("small_set:1.0.0", 2), ("small_set:1.0.0:train", 2)],
)
def test_versions_and_parts_of_splits_are_understood(prepared, address, count):
    assert len(load_source(f"tfds:{address}", prepared).train) == count


def test_what_is_trained_on_is_never_tested_on(prepared):
    assert load_source("tfds:small_set:train+validation", prepared).test is None
    assert load_source("tfds:small_set:all", prepared).test is None


def test_a_set_without_classes_has_no_labels_and_no_test_images(prepared):
    source = load_source("tfds:without_train:two", prepared)
    assert source.test is None and source.train.labels.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("two_pictures", r"several images in each example \(left, right\)"),
        ("numbers_only", "has no images, but number"),
        ("without_train", "has no split train: choose one of one, two"),
        ("small_set:nowhere", "has no split 'nowhere': choose one of train, validation"),
        ("no_such_set_at_all", "TFDS has no data set"),
        ("", "is no name of a data set"),
        ("a:b:c", "TFDS has no data set|is no name"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(prepared, address, message):
    with pytest.raises(ValueError, match=message):
        load_source(f"tfds:{address}", prepared)


def test_a_set_that_is_not_prepared_names_the_flag_that_downloads_it(tmp_path):
    with pytest.raises(ValueError, match=r"tfds:mnist is not prepared in .*--download"):
        load_source("tfds:mnist", tmp_path)


def addressed(source):
    """The images of a source by their width, which the photos above do not share."""
    pixels = [read_image(item) for item in source.train.items]
    return {max(each.shape): each for each in pixels}


def test_images_of_different_sizes_are_read_where_they_lie_and_set_upright(prepared):
    source = load_source("tfds:turned_photos", prepared)
    assert not source.train.in_memory and len(source.train) == 6 and len(source.test) == 2
    found = addressed(source)
    assert found[24].shape in ((24, 16, 3), (24, 24, 3)) and found[32].shape == (24, 32, 3)
    for item, label in zip(source.train.items, source.train.labels, strict=True):
        height, width, _ = read_image(item).shape
        stored = (max(height, width) - 16) // 8 if (height, width) != (24, 16) else 0
        assert stored % 2 == label
    with_exif = [each for each in map(read_image, source.train.items) if each.shape == (24, 24, 3)]
    (turned,) = with_exif  # dark at the left before, so at the top when it is upright
    assert turned[2].mean() < 40 and turned[-3].mean() > 180


def test_a_second_look_at_a_shard_reads_its_memory_and_finds_the_same(
    prepared, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load_source("tfds:turned_photos", prepared).train
    shard = pathlib.Path(RecordAddress.parse(first.items[0]).shard)
    monkeypatch.setattr("sit_keras.data.tfds_records._read_rows", lambda *_: pytest.fail("read"))
    again = load_source("tfds:turned_photos", prepared).train
    assert (again.items == first.items).all() and (again.labels == first.labels).all()
    assert (again.checksums == first.checksums).all()
    assert shard.is_file() and len(list((tmp_path / "sit_keras").glob("shard-*"))) == 2


def test_parts_of_a_split_of_different_sizes_are_those_that_tfds_takes(prepared):
    whole = load_source("tfds:turned_photos", prepared).train.items.tolist()
    assert load_source("tfds:turned_photos:train[2:5]", prepared).train.items.tolist() == whole[2:5]


def test_a_shard_that_is_cut_short_is_named(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    TurnedPhotos(data_dir=tmp_path).download_and_prepare()
    (shard,) = (tmp_path / "turned_photos").rglob("*train*")
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"turned_photos-train.* is damaged at byte \d+"):
        load_source("tfds:turned_photos", tmp_path)


def test_images_of_different_sizes_become_the_batches_that_files_of_them_become(prepared, tmp_path):
    images = load_source("tfds:turned_photos", prepared).train
    files = []
    for number, item in enumerate(images.items):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(RecordAddress.parse(item).read())
    others = ImageSet(np.array([str(file) for file in files]), images.labels)
    layer = ImagePreprocessing((16, 16, 3))
    ours, theirs = (next(iter(eval_batches(each, layer))) for each in (images, others))
    np.testing.assert_array_equal(ours, theirs)


def test_colours_become_grey_where_one_channel_is_asked_for(prepared):
    source = load_source("tfds:small_set", prepared, channels=1)
    assert source.train.items.shape == (2, 4, 5, 1)
    with pytest.raises(ValueError, match=r"1 channel, and 5 are expected"):
        load_source("tfds:small_set", prepared, channels=5)
    with pytest.raises(OSError, match=r"tfrecord.* 3 channels, and 5 are expected"):
        load_source("tfds:turned_photos", prepared, channels=5)


def test_a_set_by_its_tfds_name_is_the_one_with_a_name_here(real_images):
    ours, theirs = (load_source(x, real_images / "tfds") for x in ("cifar100", "tfds:cifar100"))
    assert (ours.train.items == theirs.train.items).all()
    assert (ours.test.labels == theirs.test.labels).all()
