"""Files from any client: every mode of JPEG and PNG, and everything that must be refused."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from serving_case import encode

from sit_keras.data.reading import read_image
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.serving import decoding
from sit_keras.serving.decoding import DAMAGED, FOREIGN, TOO_LARGE, decode_images

SIZE = 8
WHOLE = ImagePreprocessing((SIZE, SIZE, 3), crop=1.0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_says(width, height):
    """A PNG whose header promises more than the file holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(50)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def jpeg_that_says(file, width, height):
    """A JPEG with another size in its header."""
    start = next(i for i in range(2, len(file)) if file[i] == 0xFF and file[i + 1] in (0xC0, 0xC2))
    return file[: start + 5] + struct.pack(">HH", height, width) + file[start + 9 :]


@pytest.fixture(scope="module")
def decode():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def function(files):
        return decode_images(files, SIZE, 4 * SIZE, WHOLE.centre)

    def call(*files):
        pixels, reasons = function(tf.constant(files, tf.string))
        return pixels.numpy(), [reason.decode() for reason in reasons.numpy()]

    return call


@pytest.fixture(scope="module")
def photo():
    ramp = np.linspace(0, 1, 40)
    waves = [np.sin(3 * ramp)[:, None] * np.cos(k * ramp)[None, :30] for k in (2, 4, 5)]
    return np.uint8(127 + 120 * np.stack(waves, axis=-1))


def test_every_mode_is_what_pillow_reads(decode, photo, tmp_path):
    colour = Image.fromarray(photo)
    mask = Image.fromarray(np.uint8(np.arange(1200).reshape(40, 30) % 256))
    see_through = colour.copy()
    see_through.putalpha(mask)
    grey = colour.convert("L")
    grey_through = Image.merge("LA", (grey, mask))
    deep = Image.fromarray(np.asarray(grey).astype("uint16") * 257)
    palette = see_through.quantize(32)
    files = {
        "rgb.png": encode(colour, "PNG"),
        "rgba.png": encode(see_through, "PNG"),
        "grey.png": encode(grey, "PNG"),
        "one-colour-is-none.png": encode(colour, "PNG", transparency=(127, 127, 127)),
        "grey-alpha.png": encode(grey_through, "PNG"),
        "16-bit.png": encode(deep, "PNG"),
        "palette.png": encode(palette, "PNG"),
        "interlaced-1x1.png": encode(photo[:1, :1], "PNG"),
        "rgb.jpg": encode(colour, "JPEG", quality=95),
        "grey.jpg": encode(grey, "JPEG", quality=95),
        "progressive.jpg": encode(colour, "JPEG", quality=95, progressive=True),
    }
    pixels, reasons = decode(*files.values())
    for name, ours, reason in zip(files, pixels, reasons, strict=True):
        assert reason == "", name
        (tmp_path / name).write_bytes(files[name])
        image = read_image(tmp_path / name)[None] / np.float32(255)
        expected = WHOLE.centre(tf.constant(image))[0]
        np.testing.assert_allclose(ours, expected, atol=2 / 255, err_msg=name)
    cmyk, (reason,) = decode(encode(colour.convert("CMYK"), "JPEG", quality=95))
    assert reason == ""
    np.testing.assert_allclose(cmyk[0], pixels[list(files).index("rgb.jpg")], atol=5 / 255)


def test_large_files_are_reduced(decode, photo):
    """By a whole factor, and within a few grey values of the whole."""
    large = Image.fromarray(photo).resize((450, 600), Image.BICUBIC)
    files = encode(large, "PNG"), encode(large, "JPEG", quality=95), encode(photo, "PNG")
    (png, jpeg, small), reasons = decode(*files)
    assert reasons == ["", "", ""]
    np.testing.assert_allclose(png, small, atol=4 / 255)
    np.testing.assert_allclose(jpeg, small, atol=6 / 255)


def test_long_strips(decode, photo):
    """Their middle, as of an image that was cut beforehand; the rest is never made into floats."""
    strip = Image.fromarray(photo).resize((60, 40), Image.BICUBIC)
    wide = Image.new("RGB", (2001, 41))
    wide.paste(strip, (970, 1))
    expected = wide.crop((980, 0, 1021, 41))
    pixels, reasons = decode(encode(wide, "PNG"), encode(expected, "PNG"))
    assert reasons == ["", ""]
    np.testing.assert_allclose(pixels[0], pixels[1], atol=1e-6)


def test_what_is_refused_fails_nobody_else(decode, photo):
    png, jpeg = encode(photo, "PNG"), encode(photo, "JPEG")
    cases = [
        (b"", FOREIGN),
        (b"no image", FOREIGN),
        (encode(photo, "GIF"), FOREIGN),
        (encode(photo, "BMP"), FOREIGN),
        (encode(photo, "WEBP"), FOREIGN),
        (png[:20], DAMAGED),
        (png[:200], DAMAGED),
        (png[:60] + b"\x00" * 20 + png[80:], DAMAGED),
        (jpeg[:100], DAMAGED),
        (jpeg[: len(jpeg) // 2], DAMAGED),
        (png_that_says(60_000, 60_000), TOO_LARGE),
        (png_that_says(2049, 2048), TOO_LARGE),
        (png_that_says(2**31 - 1, 2**31 - 1), TOO_LARGE),
        (png_that_says(0, 10), DAMAGED),
        # A small size in a chunk before the header, which the decoder would pass over.
        (png[:8] + chunk(b"abCd", png[16:29]) + png_that_says(60_000, 60_000)[8:], DAMAGED),
        (png_that_says(100, 100), DAMAGED),
        (jpeg_that_says(jpeg, 20_000, 20_000), TOO_LARGE),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), DAMAGED),
        (b"\xff\xd8\xff" + bytes(100), DAMAGED),
    ]
    good = encode(photo, "PNG")
    alone, _ = decode(good)
    files = [file for bad, _ in cases for file in (bad, good)]
    pixels, reasons = decode(*files)
    assert reasons[::2] == [reason for _, reason in cases]
    assert reasons[1::2] == [""] * len(cases)
    np.testing.assert_array_equal(pixels[::2], 0)
    for image in pixels[1::2]:
        np.testing.assert_array_equal(image, alone[0])


def test_a_file_that_is_too_long(decode, photo, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    long = encode(photo, "PNG")
    assert len(long) > 1000

    @tf.function(autograph=False)
    def limited(files):
        return decode_images(files, SIZE, 4 * SIZE, WHOLE.centre)

    _, reasons = limited(tf.constant([long, encode(photo[:2, :2], "PNG")]))
    assert [reason.decode()[:8] for reason in reasons.numpy()] == ["too long", ""]


def test_no_file_at_all(decode):
    pixels, reasons = decode()
    assert pixels.shape == (0, SIZE, SIZE, 3) and reasons == []
