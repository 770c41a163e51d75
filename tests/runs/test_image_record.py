"""What changed among the images of a run, by its record of them."""

import dataclasses
import os

import numpy as np
import pytest

from sit_keras.config.presets import run_config
from sit_keras.data.images import ImageSet
from sit_keras.runs.cached_step import cached_step, images_fingerprint
from sit_keras.runs.data import RunData
from sit_keras.runs.image_record import RECORD, ImageRecord, changes, settle_images

CLASSES = ("cat", "dog")
FILES = {f"{CLASSES[i % 2]}/{i:02d}.png": 1000 + i for i in range(12)}
CONFIG = run_config("digits", dataset="folder:/photos", batch_size=2)


def files(contents, root="/photos", held_out=("cat/00.png", "dog/01.png")):
    """The images of a run whose files have these checksums, labelled by their folders."""

    def part(names):
        return ImageSet(
            np.array([f"{root}/{name}" for name in names]),
            np.array([CLASSES.index(name.split("/")[0]) for name in names]),
            CLASSES,
            np.array([contents[name] for name in names], np.uint32),
        )

    kept = [name for name in contents if name not in held_out]
    config = dataclasses.replace(CONFIG, dataset=f"folder:{root}")
    return RunData(config, part(kept), part([n for n in held_out if n in contents]), None)


def changed(contents, **settings):
    return changes(ImageRecord.of(files(FILES)), ImageRecord.of(files(contents, **settings)))


def without(*names):
    return {name: content for name, content in FILES.items() if name not in names}


def test_the_same_images_in_any_order_and_place_have_not_changed():
    assert changed(FILES) == []
    assert changed(dict(reversed(FILES.items()))) == []
    assert changed(FILES, root="/elsewhere/photos") == []


def test_added_images():
    more = FILES | {f"dog/new{i}.png": 5 + i for i in range(4)}
    assert changed(more) == ["4 added (dog/new0.png, dog/new1.png, dog/new2.png, ...)"]


def test_removed_images():
    assert changed(without("cat/04.png")) == ["1 removed (cat/04.png)"]


def test_an_image_replaced_in_place():
    assert changed(FILES | {"dog/03.png": 7}) == ["1 replaced by another content (dog/03.png)"]


def test_a_renamed_image():
    renamed = without("cat/04.png") | {"cat/first.png": FILES["cat/04.png"]}
    assert changed(renamed) == ["1 renamed (cat/04.png -> cat/first.png)"]


def test_an_image_moved_to_the_folder_of_another_class():
    moved = without("cat/04.png") | {"dog/04.png": FILES["cat/04.png"]}
    assert changed(moved) == ["1 given another class (cat/04.png -> dog/04.png)"]


def test_two_images_that_changed_their_places():
    swapped = FILES | {"cat/04.png": FILES["cat/06.png"], "cat/06.png": FILES["cat/04.png"]}
    assert changed(swapped) == ["2 replaced by another content (cat/04.png, cat/06.png)"]


def test_several_changes_at_once_are_all_named():
    both = without("cat/04.png", "cat/06.png") | {"dog/x.png": 1, "dog/05.png": 2}
    assert changed(both) == [
        "1 added (dog/x.png)",
        "2 removed (cat/04.png, cat/06.png)",
        "1 replaced by another content (dog/05.png)",
    ]


def test_classes_that_vanished_change_every_label():
    data = files(FILES)
    plain = [
        dataclasses.replace(part, labels=np.full(len(part), -1), class_names=())
        for part in (data.train, data.held_out)
    ]
    without_classes = dataclasses.replace(data, train=plain[0], held_out=plain[1])
    (found,) = changes(ImageRecord.of(data), ImageRecord.of(without_classes))
    assert found.startswith("12 given another class (cat/00.png, ")


def test_the_same_images_split_otherwise():
    (found,) = changed(FILES, held_out=("cat/00.png", "dog/05.png"))
    assert found == "2 moved between training and held-out images (dog/01.png, dog/05.png)"


def test_without_checksums_the_sizes_of_files_are_compared(tmp_path):
    (tmp_path / "a.png").write_bytes(b"12345")
    (tmp_path / "b.png").write_bytes(b"12345")

    def record():
        items = np.array([str(tmp_path / name) for name in ("a.png", "b.png")])
        images = ImageSet(items, np.full(2, -1))
        config = dataclasses.replace(CONFIG, dataset=f"folder:{tmp_path}")
        return ImageRecord.of(RunData(config, images, images.take(np.array([], int)), None))

    before = record()
    (tmp_path / "b.png").write_bytes(b"1234567")
    assert changes(before, record()) == ["1 replaced by another content (b.png)"]


def test_images_in_memory_are_compared_by_their_pixels(random):
    pixels = random.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    pixels[1] = pixels[0]  # a copy

    def record(pixels, labels):
        images = ImageSet(pixels, np.array(labels), CLASSES)
        config = run_config("digits", batch_size=2)
        split = images.take(np.arange(6)), images.take(np.arange(6, len(images)))
        return ImageRecord.of(RunData(config, *split, None))

    before = record(pixels, [0, 0, 0, 1, 1, 0, 1, 0])
    assert changes(before, record(pixels, [0, 0, 0, 1, 1, 0, 1, 0])) == []
    (found,) = changes(before, record(pixels, [0, 0, 1, 1, 1, 0, 1, 0]))
    assert found.startswith("1 given another class (image ")
    found = changes(before, record(pixels[:7], [0, 0, 0, 1, 1, 0, 1]))
    assert [phrase.split(" (")[0] for phrase in found] == ["1 removed"]


def test_a_record_is_read_as_it_was_written(tmp_path):
    """Names that are not UTF-8 among them."""
    odd = os.fsdecode(b"cat/caf\xe9.png")
    before = ImageRecord.of(files(FILES | {odd: 3, "dog/na\u00efve.png": 4}))
    before.write(tmp_path / RECORD)
    after = ImageRecord.read(tmp_path / RECORD)
    assert changes(before, after) == [] and after.fingerprint() == before.fingerprint()
    assert odd in after.names and after.steps_per_epoch == before.steps_per_epoch == 6
    assert list(after.labels) == list(before.labels)


def test_the_record_of_a_hundred_thousand_files_is_small(tmp_path, random):
    names = [f"cat/{i // 1000:04d}/{i:08d}.png" for i in range(100_000)]
    contents = dict(zip(names, random.integers(0, 2**32, len(names)), strict=True))
    ImageRecord.of(files(contents, held_out=())).write(tmp_path / RECORD)
    assert (tmp_path / RECORD).stat().st_size < 1_500_000


def test_a_broken_record_is_named(tmp_path):
    ImageRecord.of(files(FILES)).write(tmp_path / RECORD)
    whole = (tmp_path / RECORD).read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"text"):
        (tmp_path / RECORD).write_bytes(broken)
        with pytest.raises(
            ValueError, match="images.npz, the record of the images.*cannot be read"
        ):
            ImageRecord.read(tmp_path / RECORD)


@pytest.fixture
def begun(tmp_path):
    """The folder of a run that was trained on `FILES` and stopped."""
    settle_images(files(FILES), tmp_path, "stop", writes=True)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def test_other_images_are_refused_and_named(begun):
    before = (begun / RECORD).read_bytes()
    with pytest.raises(ValueError, match=r"so far: 1 removed \(cat/04.png\)\. .*images=go_on"):
        settle_images(files(without("cat/04.png")), begun, "stop", writes=True)
    assert (begun / RECORD).read_bytes() == before
    assert settle_images(files(FILES), begun, "stop", writes=True).steps_per_epoch == 5


def test_a_run_goes_on_with_other_images_in_its_own_steps(begun, capsys):
    """With the steps of half the images a run that is half done would count as finished."""
    half = files(without(*list(FILES)[:6]))
    assert half.steps_per_epoch == 3
    for writes in (False, True):  # as on two workers
        assert settle_images(half, begun, "go_on", writes).steps_per_epoch == 5
    text = capsys.readouterr().out
    assert text.count("6 removed") == 1 and "5 steps an epoch stay; the images are split" in text
    again = settle_images(half, begun, "stop", writes=True)  # the record is that of the present
    assert again.steps_per_epoch == 5 and capsys.readouterr().out == ""


def test_a_run_of_before_gets_a_record_and_says_so(begun, capsys):
    (begun / RECORD).unlink()
    assert settle_images(files(FILES), begun, "stop", writes=True).steps_per_epoch == 5
    assert "has no record of the images" in capsys.readouterr().out
    with pytest.raises(ValueError, match="1 added"):
        settle_images(files(FILES | {"cat/x.png": 9}), begun, "stop", writes=True)


def test_a_run_that_saved_nothing_yet_begins_with_the_present_images(begun, capsys):
    (begun / "checkpoints").rmdir()
    data = settle_images(files(without("cat/04.png")), begun, "stop", writes=True)
    assert data.recorded_steps is None and capsys.readouterr().out == ""
    assert "cat/04.png" not in ImageRecord.read(begun / RECORD).names


def test_a_cached_step_names_the_images_that_changed(tmp_path):
    def run(images):
        settings = {"seed": 0, "train": images_fingerprint(images)}
        return cached_step(tmp_path, settings, lambda folder: {"accuracy": 1.0})

    assert run(files(FILES).train) == {"accuracy": 1.0}
    assert run(files(FILES, root="/moved/photos").train) == {"accuracy": 1.0}
    for other in (FILES | {"dog/03.png": 7}, without("cat/04.png")):
        with pytest.raises(ValueError, match="settings .the training images have changed.: give"):
            run(files(other).train)


def test_other_readings_of_the_same_files_are_other_images():
    images = files(FILES).train
    narrow, wide = (
        images_fingerprint(dataclasses.replace(images, value_range=(0, high)))
        for high in (4095, 65535)
    )
    five = images_fingerprint(dataclasses.replace(images, channels=5))
    assert len({images_fingerprint(images), narrow, wide, five}) == 4


def test_results_never_lie_among_the_images(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    data = files(FILES, root=str(tmp_path / "photos"))
    for output in ("photos", "photos/cat", "photos/dog/", "photos/../photos", "link", "link/cat"):
        with pytest.raises(ValueError, match="is a folder of the images"):
            data.refuse_as_output(tmp_path / output)
    for output in ("runs", "photos/runs/a", "photos2", ".", "photos/cat/run"):
        data.refuse_as_output(tmp_path / output)
    deep = files({f"cat/deep/er/{i}.png": i for i in range(4)}, root=str(tmp_path / "photos"))
    with pytest.raises(ValueError, match="is a folder of the images"):
        deep.refuse_as_output(tmp_path / "photos" / "cat" / "deep")
