import numpy as np
import pytest

from sit_keras.data.sources import load_source, survey_source

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


class WithoutTrain(SmallSet):
    """No split to train on, and no classes."""

    parts = {"picture": kinds.Image(shape=(4, 4, 3))}
    keys = None
    splits = {"one": 1, "two": 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (SmallSet, TwoPictures, NumbersOnly, MixedSizes, WithoutTrain):
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
        ("mixed_sizes", "are of different sizes"),
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


def test_a_set_by_its_tfds_name_is_the_one_with_a_name_here(real_images):
    ours, theirs = (load_source(x, real_images / "tfds") for x in ("cifar100", "tfds:cifar100"))
    assert (ours.train.items == theirs.train.items).all()
    assert (ours.test.labels == theirs.test.labels).all()
