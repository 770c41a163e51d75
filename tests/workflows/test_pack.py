"""Packing a data set as records, and reading what was packed."""

import io
import json
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sit_keras.augment.pretext import TwoViews
from sit_keras.data import records
from sit_keras.data.pipeline import eval_batches, step_images
from sit_keras.data.reading import read_image
from sit_keras.data.sources import load_source, survey_source
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.workflows import pack as packing
from sit_keras.workflows.pack import pack


@pytest.fixture
def photos(random, tmp_path):
    """Two classes of JPEGs and PNGs to train on, and one of each to test on."""
    for split, count in (("train", 6), ("test", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                small = random.integers(0, 256, (4, 5, 3), np.uint8)
                image = Image.fromarray(small).resize((50 + i, 40), Image.Resampling.BICUBIC)
                image.save(folder / f"{i}.{'jpg' if i % 2 else 'png'}")
    return f"folder:{tmp_path / 'photos'}"


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(packing, "SHARD_BYTES", 4000)


def test_records_give_the_views_labels_and_order_of_the_files(photos, small_shards, tmp_path):
    pack(photos, tmp_path / "out")
    files, packed = load_source(photos), load_source(f"records:{tmp_path / 'out'}")
    assert len(list((tmp_path / "out").glob("train-*.tfrecord"))) > 2
    assert survey_source(packed.name)[:2] == (12, 12)
    for before, after in ((files.train, packed.train), (files.test, packed.test)):
        np.testing.assert_array_equal(before.labels, after.labels)
        assert before.class_names == after.class_names == ("cat", "dog")
    views = TwoViews(16, seed=3)
    steps = [step_images(each.train, views, 4, 2, 5) for each in (files, packed)]
    for a, b in zip(*steps, strict=True):
        np.testing.assert_array_equal(a, b)
    batches = [eval_batches(each.test, ImagePreprocessing((16, 16, 3))) for each in (files, packed)]
    for a, b in zip(*batches, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_jpeg_is_packed_byte_by_byte_and_other_images_as_png(photos, tmp_path):
    pack(photos, tmp_path / "out")
    files, packed = (load_source(name).train for name in (photos, f"records:{tmp_path / 'out'}"))
    for path, address, checksum in zip(files.items, packed.items, packed.checksums, strict=True):
        data = records.RecordAddress.parse(str(address)).read()
        assert zlib.crc32(data) == checksum
        if path.endswith(".jpg"):
            with open(path, "rb") as file:
                assert data == file.read()
        else:
            assert data.startswith(b"\x89PNG")
        np.testing.assert_array_equal(Image.open(io.BytesIO(data)), read_image(path))


def test_tensorflow_reads_the_shards_as_records_of_the_usual_names(photos, tmp_path):
    pack(photos, tmp_path / "out")
    shards = sorted(map(str, (tmp_path / "out").glob("train-*.tfrecord")))
    examples = [
        tf.train.Example.FromString(x.numpy()).features.feature
        for x in tf.data.TFRecordDataset(shards)
    ]
    packed = load_source(f"records:{tmp_path / 'out'}").train
    assert [e["image/class/label"].int64_list.value[0] for e in examples] == list(packed.labels)
    for example, address in zip(examples, packed.items, strict=True):
        data = records.RecordAddress.parse(str(address)).read()
        assert example["image/encoded"].bytes_list.value[0] == data
    assert examples[0]["image/filename"].bytes_list.value[0] == b"cat/0.png"


def test_images_in_memory_are_packed_without_loss(tmp_path):
    pack("digits", tmp_path / "out")
    packed, digits = load_source(f"records:{tmp_path / 'out'}"), load_source("digits")
    for i in (0, 700, 1436):
        np.testing.assert_array_equal(read_image(str(packed.train.items[i])), digits.train.items[i])
    np.testing.assert_array_equal(packed.test.labels, digits.test.labels)


def test_a_second_process_is_kept_out_and_the_first_one_goes_on(photos, tmp_path, monkeypatch):
    write = packing.records.write_shard

    def interrupted(path, images):
        with pytest.raises(ValueError, match="Another process is working in"):
            pack(photos, tmp_path / "out")
        return write(path, images)

    monkeypatch.setattr(packing.records, "write_shard", interrupted)
    pack(photos, tmp_path / "out")
    assert len(load_source(f"records:{tmp_path / 'out'}").train) == 12


def test_packing_goes_on_where_it_was_stopped(photos, small_shards, tmp_path, monkeypatch):
    out, whole = tmp_path / "out", tmp_path / "whole"
    pack(photos, whole)
    write, written = records.write_shard, []

    def write_two(path, images):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        return write(path, images)

    monkeypatch.setattr(records, "write_shard", write_two)
    with pytest.raises(KeyboardInterrupt):
        pack(photos, out)
    with pytest.raises(ValueError, match="No records in .*call it again"):
        load_source(f"records:{out}")
    first = written.copy()
    written.clear()
    monkeypatch.setattr(
        records,
        "write_shard",
        lambda path, images: written.append(path.name) or write(path, images),
    )
    pack(photos, out)
    assert first and not set(first) & set(written)
    for path in whole.iterdir():
        if path.suffix in (".tfrecord", ".json"):
            assert path.read_bytes() == (out / path.name).read_bytes()


def test_a_folder_of_other_images_or_files_is_left_alone(photos, tmp_path):
    pack(photos, tmp_path / "out")
    with pytest.raises(ValueError, match="holds records of other images or settings"):
        pack("digits", tmp_path / "out")
    with pytest.raises(ValueError, match="is not empty"):
        pack("digits", tmp_path / "photos")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is not empty"):
        pack("digits", tmp_path / "file")


def test_what_was_packed_before_is_compared_with_its_checksums(photos, tmp_path, capsys):
    pack(photos, tmp_path / "out")
    pack(photos, tmp_path / "out")
    assert "is intact" in capsys.readouterr().out
    (shard,) = (tmp_path / "out").glob("train-*.tfrecord")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.tfrecord is missing or has chan"):
        pack(photos, tmp_path / "out")


def test_an_image_that_has_changed_in_a_shard_is_refused_and_named(photos, tmp_path):
    pack(photos, tmp_path / "out")
    packed = load_source(f"records:{tmp_path / 'out'}").train
    address = records.RecordAddress.parse(str(packed.items[3]))
    with open(address.shard, "r+b") as file:
        file.seek(address.position + 20)
        file.write(b"\0\1\2\3")
    message = r"train-00000-of-00001\.tfrecord#\d+\+\d+=.*copy it again"
    with pytest.raises(OSError, match=message):
        read_image(str(packed.items[3]))
    with pytest.raises(tf.errors.OpError, match=message):
        list(step_images(packed, TwoViews(16), 12, 0, 1))


def damage(folder, what):
    index = json.loads((folder / "index.json").read_text())
    (shard,) = folder.glob("train-*.tfrecord")
    if what == "no shard":
        shard.unlink()
    elif what == "a shard cut off":
        shard.write_bytes(shard.read_bytes()[:-7])
    elif what == "no index of a shard":
        shard.with_suffix(".npz").unlink()
    elif what == "a broken index of a shard":
        shard.with_suffix(".npz").write_bytes(b"PK")
    elif what == "another format":
        (folder / "index.json").write_text(json.dumps({**index, "format": 99}))
    elif what == "a broken index":
        (folder / "index.json").write_text("{")
    elif what == "no images":
        (folder / "index.json").write_text(json.dumps({**index, "splits": {}}))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no shard", r"\.tfrecord, a shard of records, cannot be opened"),
        ("a shard cut off", r"\.tfrecord, a shard of records, has [\d,]+ bytes instead of \d+"),
        ("no index of a shard", r"\.npz, the index of a shard, cannot be read"),
        ("a broken index of a shard", r"\.npz, the index of a shard, cannot be read"),
        ("another format", "of format 99, and this version reads 1"),
        ("a broken index", "should hold the index of records, but it is no JSON"),
        ("no images", "names no images to train on"),
    ],
)
def test_damaged_records_are_refused_in_a_sentence(photos, tmp_path, what, message):
    pack(photos, tmp_path / "out")
    damage(tmp_path / "out", what)
    with pytest.raises(ValueError, match=message):
        load_source(f"records:{tmp_path / 'out'}")
