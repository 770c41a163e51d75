"""Files made to cost much: what they are refused for, and what is left out before decoding.

What they cost is measured by benchmarks/hostile_files.py, whose files these are.
"""

import importlib.util
import struct

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image, PngImagePlugin
from serving_case import encode

from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.serving import limits
from sit_keras.serving.decoding import DAMAGED, TOO_LARGE, decode_images
from sit_keras.serving.jpeg_scans import (
    ARITHMETIC,
    TOO_MANY_SCANS,
    TOO_MANY_SEGMENTS,
    has_too_many_scans,
    jpeg_header,
)
from sit_keras.serving.png_chunks import TOO_MANY_CHUNKS, TOO_MUCH_DATA, image_chunks

SIZE = 8
CENTRE = ImagePreprocessing((SIZE, SIZE, 3), crop=1.0).centre


@pytest.fixture(scope="module")
def hostile():
    """The module of the benchmark."""
    path = ROOT / "benchmarks" / "hostile_files.py"
    spec = importlib.util.spec_from_file_location("hostile_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def decode():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def function(files):
        return decode_images(files, SIZE, 4 * SIZE, CENTRE)

    def call(files):
        pixels, reasons = function(tf.constant(files, tf.string))
        return pixels.numpy(), [reason.decode() for reason in reasons.numpy()]

    return call


@pytest.fixture(scope="module")
def kept():
    """What a decoder gets to see of a PNG."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def function(file):
        return image_chunks(file).file

    return lambda file: function(tf.constant(file)).numpy()


@pytest.fixture
def photo(random):
    return Image.fromarray(random.integers(0, 256, (40, 30, 3), dtype=np.uint8))


def kinds(file):
    """The types of the chunks of a PNG."""
    found, position = [], 8
    while position < len(file):
        (length,) = struct.unpack(">I", file[position : position + 4])
        found.append(file[position + 4 : position + 8])
        position += 12 + length
    return found


# --- PNG ------------------------------------------------------------------------------------------


def test_a_decoder_sees_no_chunk_but_those_of_the_pixels(kept, hostile, photo):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("packed", "x" * 5000, zip=True)
    texts.add_itxt("other", "é" * 50)
    file = encode(photo.quantize(9), "PNG", transparency=3, pnginfo=texts, icc_profile=bytes(900))
    pixels = [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    assert {b"zTXt", b"iTXt", b"iCCP"} <= set(kinds(file))
    assert kinds(kept(file)) == pixels
    plain = encode(photo.quantize(9), "PNG", transparency=3)
    assert kept(plain) == plain == kept(file)
    after = plain[:-12] + hostile.chunk(b"zTXt", b"a\0\0x") + plain[-12:]
    assert kept(after) == plain
    packed = hostile.png(8, 8, hostile.SMALL, hostile.chunk(b"zTXt", bytes(99999)))
    assert len(kept(packed)) < 100


@pytest.mark.parametrize("kind, data", [
    (b"gAMA", struct.pack(">I", 200_000)),
    (b"bKGD", bytes([0, 255, 0, 0, 0, 0])),
    (b"sBIT", bytes([2, 2, 2])),
    (b"cHRM", struct.pack(">8I", *range(30_000, 38_000, 1000))),
])  # fmt: skip
def test_what_is_dropped_would_not_change_a_pixel(decode, hostile, photo, kind, data):
    plain = encode(photo, "PNG")
    file = plain[:33] + hostile.chunk(kind, data) + plain[33:]
    np.testing.assert_array_equal(tf.io.decode_png(file), tf.io.decode_png(plain))
    (pixels, others), reasons = decode([file, plain])
    assert reasons == ["", ""]
    np.testing.assert_array_equal(pixels, others)


def test_png_files_that_are_refused(decode, hostile, photo):
    chunk, small, long = hostile.chunk, hostile.SMALL, hostile.zeros(64)
    plain = encode(photo, "PNG")
    endless = plain[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + plain[33:]
    negative = plain[:33] + struct.pack(">I", 2**32 - 5) + b"tEXt" + plain[33:]
    cases = [
        (hostile.png(8, 8, small, chunk(b"tEXt") * limits.MAX_PNG_CHUNKS), TOO_MANY_CHUNKS),
        (hostile.png(8, 8, small, chunk(b"IDAT") * limits.MAX_PNG_CHUNKS), TOO_MANY_CHUNKS),
        (hostile.png(8, 8, small, chunk(b"PLTE", bytes(3000))), DAMAGED),
        (hostile.png(8, 8, small, chunk(b"PLTE", bytes(768)) * 50), DAMAGED),
        (hostile.png(8, 8, small, chunk(b"ABCD")), DAMAGED),  # it must be understood, and is not
        (hostile.png(8, 8, hostile.zeros(128)), DAMAGED),  # packed, more than the pixels unpacked
        # A thousandfold of the data follows the last row, in the same chunk or in another one.
        (hostile.png(1024, 1024, long), DAMAGED),
        (hostile.png(1024, 1024, long[:99], after=chunk(b"IDAT", long[99:])), DAMAGED),
        (hostile.png(2048, 2048, bytes(limits.MAX_PNG_DATA + 1)), TOO_MUCH_DATA),
        (hostile.png(13_000, 13_000, small), TOO_LARGE),
        (hostile.png(2048, 1200, small, depth=16), TOO_LARGE),
        (endless, DAMAGED),
        (negative, DAMAGED),
        (plain[:33], DAMAGED),
        (plain[:-12], DAMAGED),
    ]
    for file, reason in cases:
        pixels, reasons = decode([file, plain])
        assert reasons == [reason, ""]
        np.testing.assert_array_equal(pixels[0], 0)


def test_honest_png_files_of_many_chunks_are_served(decode, hostile, photo):
    """Their data may be in pieces of any size, and need not be compressed at all."""
    plain = encode(photo, "PNG")
    start = plain.index(b"IDAT") - 4
    (length,) = struct.unpack(">I", plain[start : start + 4])
    data = plain[start + 8 : start + 8 + length]
    pieces = [hostile.chunk(b"IDAT", data[i : i + 1]) for i in range(length)]
    cut = plain[:start] + b"".join(pieces) + plain[-12:]
    stored = encode(photo, "PNG", compress_level=0)
    pixels, reasons = decode([plain, cut, stored])
    assert reasons == ["", "", ""] and length > 3000
    np.testing.assert_array_equal(pixels[1:], pixels[:1].repeat(2, axis=0))


# --- JPEG -----------------------------------------------------------------------------------------


def test_jpeg_files_that_are_refused(decode, hostile):
    most, scans = limits.MAX_JPEG_SCANS, hostile.SCANS
    wide, high = hostile.WIDE, hostile.HIGH
    cases = [
        (hostile.refinements(wide, high, scans + 1), TOO_MANY_SCANS),
        (hostile.refinements(wide, high, 3000), TOO_MANY_SCANS),
        (hostile.refinements(1, 1, most + 1), TOO_MANY_SCANS),
        (hostile.refinements(16, 16, 5, frame=0xCA), ARITHMETIC),
        (hostile.refinements(16, 16, 5, frame=0xC9), ARITHMETIC),
        (hostile.refinements(20_000, 20_000, 2), TOO_LARGE),
        (hostile.refinements(wide, high * 3 // 4 + 1, 2, components=4), TOO_LARGE),
        (hostile.refinements(8, 8, 2, before=hostile.segment(0xE5) * 1020), TOO_MANY_SEGMENTS),
        (hostile.refinements(8, 8, 2, before=b"\xff\xe5\0\0"), DAMAGED),
        (hostile.refinements(8, 8, 2, before=b"\xff\xd9"), DAMAGED),
        (b"\xff\xd8\xff", DAMAGED),
    ]
    good = hostile.refinements(16, 16, most)
    for file, reason in cases:
        pixels, reasons = decode([file, good])
        assert reasons == [reason, ""]
        np.testing.assert_array_equal(pixels[0], 0)


def test_the_files_of_phones_pass(hostile, photo):
    """With a preview, a profile, a second picture at the end and padding, at the largest size."""
    thumbnail = b"Exif\0\0" + encode(photo, "JPEG", progressive=True)
    profile = hostile.segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\xff\xda" * 3000)
    before = hostile.segment(0xE1, thumbnail) + profile * 20 + b"\xff\xff\xff"
    file = hostile.refinements(hostile.WIDE, hostile.HIGH, 14, before=before)
    file += encode(photo, "JPEG", progressive=True)  # ten more scans
    assert file.count(b"\xff\xda") > 60_000
    header = jpeg_header(tf.constant(file))
    assert bool(header.whole) and not bool(header.too_many | header.arithmetic)
    assert (int(header.width), int(header.height)) == (hostile.WIDE, hostile.HIGH)
    assert not has_too_many_scans(tf.constant(file), header)
    assert has_too_many_scans(tf.constant(file + b"\xff\xda"), header)


def test_a_scan_between_two_bands_is_counted(hostile, monkeypatch):
    monkeypatch.setattr("sit_keras.serving.jpeg_scans._BAND", 5)
    file = tf.constant(hostile.refinements(1, 1, limits.MAX_JPEG_SCANS + 1))
    assert has_too_many_scans(file, jpeg_header(file))
    file = tf.constant(hostile.refinements(1, 1, limits.MAX_JPEG_SCANS))
    assert not has_too_many_scans(file, jpeg_header(file))


# --- Requests -------------------------------------------------------------------------------------


def test_a_request_of_too_many_files_is_refused_as_a_whole(decode, hostile):
    _, reasons = decode([b"no image"] * limits.MAX_IMAGES)
    assert len(reasons) == limits.MAX_IMAGES
    with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
        decode([hostile.png(1, 1, hostile.SMALL)] * 100_000)
    assert "At most 256 images a request; received 100000" in refusal.value.message


def test_the_batches_that_a_server_makes_are_within_the_limit():
    text = (ROOT / "serving" / "batching.config").read_text()
    largest = int(text.split("max_batch_size { value: ")[1].split()[0])
    assert 0 < largest <= limits.MAX_IMAGES
