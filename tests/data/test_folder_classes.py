"""Which sub-folders are splits and which are classes."""

import pytest

from sit_keras.data.finding import find
from sit_keras.data.folder_classes import find_classes, find_splits


def splits(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"") if path.suffix else path.mkdir()
    return find_splits(find(str(root)))


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training", "Training"])
@pytest.mark.parametrize(
    "test", ["test", "TEST", "Testing", "val", "valid", "Valid", "validation", "eval"]
)
def test_splits_are_known_in_any_spelling(tmp_path, train, test):
    found = splits(tmp_path, [f"{train}/a/0.png", f"{train}/b/1.png", f"{test}/a/2.png"])
    assert (found.train_folder, found.test_folder) == (train, test)
    assert found.train == [f"{train}/a/0.png", f"{train}/b/1.png"]
    assert found.test == [f"{test}/a/2.png"]


@pytest.mark.parametrize(
    ("names", "train", "test", "beside"),
    [
        # Without images to train on, test may be the name of a class.
        (["test/0.png", "control/1.png"], "", None, {}),
        (["val/0.png", "other/1.png"], "", None, {}),
        # Of two test splits, one is used.
        (["train/0.png", "test/1.png", "valid/2.png"], "train", "test", {"valid": 1}),
        (["train/0.png", "test/notes.txt", "valid/2.png"], "train", "valid", {}),
        # What lies beside the splits is in none.
        (
            ["train/a/0.png", "val/a/1.png", "cover.png", "more/2.png", "more/3.png"],
            "train",
            "val",
            {"cover.png": 1, "more": 2},
        ),
        (["train/a/0.png", "extra/1.png"], "train", None, {"extra": 1}),
        (["train/0.png", "cover.png"], "train", None, {"cover.png": 1}),
        # Trains, among buses and cars.
        (["train/0.png", "bus/1.png", "car/2.png"], "", None, {}),
        (["train/0.png"], "train", None, {}),
        # Only the first level has splits.
        (["photos/train/0.png", "photos/test/1.png"], "", None, {}),
    ],
)
def test_folders_that_are_splits(tmp_path, names, train, test, beside):
    found = splits(tmp_path, names)
    assert (found.train_folder, found.test_folder, found.beside) == (train, test, beside)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/0.png", "Train/1.png"], "has Train and train, which could be the same split"),
        (["train/0.png", "training/1.png"], "has train and training, which could be"),
        (["train/0.png", "test/1.png", "TEST/2.png"], "has TEST and test, which could be"),
        (["train/0.png", "val/1.png", "valid/2.png"], "has val and valid, which could be"),
        (["train/notes.txt", "test/1.png"], "No image in train of .*, and 1 beside it"),
    ],
)
def test_folders_that_could_be_either_split_are_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        splits(tmp_path, names)


def test_an_empty_folder_of_the_same_name_is_no_split(tmp_path):
    found = splits(tmp_path, ["train/0.png", "Train", "test/1.png"])
    assert (found.train_folder, found.test_folder) == ("train", "test")


@pytest.mark.parametrize(
    ("images", "classes"),
    [
        (["cat/0", "dog/1"], ("cat", "dog")),
        (["cat/0", "cat/1"], ()),
        (["0", "1"], ()),
        (["cat/0", "dog/1", "2", "3"], ("cat", "dog")),  # half of them
        (["cat/0", "dog/1", "2", "3", "4"], ()),
        (["cat/deep/0", "dog/a/b/1"], ("cat", "dog")),
        ([], ()),
    ],
)
@pytest.mark.parametrize("split", ["", "train"])
def test_folders_that_are_classes(images, classes, split):
    assert find_classes([f"{split}/{i}" if split else i for i in images], split) == classes
