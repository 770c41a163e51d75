"""JPEGs that TensorFlow decodes at the size that is needed, against what Pillow reads."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sit_keras.data import image_tensors
from sit_keras.data.jpeg_header import common_jpeg
from sit_keras.data.orientation import exif_orientation, set_upright
from sit_keras.data.reading import read_image


def photo(random, height=90, width=140):
    """A smooth picture, as photos are at the scale of single pixels."""
    small = random.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@tf.function(autograph=False)
def open_and_decode(name, excess):
    opened = image_tensors.open_image(name, 16, None)
    return *image_tensors.decode_image(opened, excess), opened.size, opened.content


def decoded(path, excess=1.0):
    """What a pipeline decodes of a file, with the scale and the size that it was said to have."""
    pixels, scale, size, _ = open_and_decode(tf.constant(str(path)), tf.constant(excess))
    return pixels.numpy(), scale.numpy(), size.numpy()


def is_by_tensorflow(path):
    content = open_and_decode(tf.constant(str(path)), tf.constant(1.0))[-1]
    return len(content.numpy()) > 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_that_pillow_reads(tmp_path, random, mode, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(photo(random), mode, exif=oriented(orientation)))
    assert is_by_tensorflow(path)
    pixels, scale, size = decoded(path)
    expected = read_image(path)
    np.testing.assert_array_equal(size, expected.shape[:2])
    np.testing.assert_array_equal(scale, [1, 1])
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("excess", "ratio"), [(1.9, 1), (2.0, 2), (5.0, 4), (9.0, 8), (0.3, 1)])
def test_as_little_is_decoded_as_is_enough(tmp_path, random, excess, ratio):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(photo(random), exif=oriented(6)))
    pixels, scale, size = decoded(path, excess)
    np.testing.assert_array_equal(size, (140, 90))
    np.testing.assert_allclose(scale, 1 / ratio)
    assert pixels.shape[:2] == (-(-140 // ratio), -(-90 // ratio))
    by_pillow = read_image(path, 90 // ratio)
    assert np.abs(pixels.astype(int) - by_pillow).max() <= 2


def with_segment(data, marker, content):
    """A JPEG with one more segment at its beginning."""
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content + data[2:]


XMP = b'http://ns.adobe.com/xap/1.0/\0<rdf tiff:Orientation="6"/>'
ODD = {
    "progressive": lambda x: jpeg(x, progressive=True),
    "four colours": lambda x: jpeg(x, "CMYK"),
    "an orientation in XMP": lambda x: with_segment(jpeg(x), 0xE1, XMP),
    "an orientation that is none": lambda x: jpeg(x, exif=oriented(9)),
    "EXIF in two parts": lambda x: with_segment(
        jpeg(x, exif=oriented(6)), 0xE1, b"Exif\0\0" + bytes(4)
    ),
    "an unknown segment": lambda x: with_segment(jpeg(x), 0xDC, bytes(2)),
    "no JPEG": lambda x: b"\x89PNG",
    "nothing but the signature": lambda x: b"\xff\xd8\xff",
    "a header alone": lambda x: jpeg(x)[:100],
    "nothing": lambda x: b"",
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_left_to_pillow(random, kind):
    assert common_jpeg(ODD[kind](photo(random))) is None
    assert common_jpeg(jpeg(photo(random))) == (90, 140, 1)


@pytest.mark.parametrize("kind", ["progressive", "four colours", "an orientation in XMP"])
def test_an_odd_jpeg_is_decoded_as_pillow_reads_it(tmp_path, random, kind):
    path = tmp_path / "a.jpg"
    path.write_bytes(ODD[kind](photo(random)))
    pixels, scale, size = decoded(path, excess=2.0)
    np.testing.assert_array_equal(pixels, read_image(path, 64))
    np.testing.assert_array_equal(size, pixels.shape[:2])
    np.testing.assert_array_equal(scale, [1, 1])


def test_a_jpeg_of_three_colours_without_conversion_keeps_them(tmp_path, random):
    """Adobe's marker says whether the three are red, green and blue."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(photo(random), keep_rgb=True))
    assert is_by_tensorflow(path)
    assert np.abs(decoded(path)[0].astype(int) - read_image(path)).max() <= 2


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_jpeg_is_named(tmp_path, random, share):
    path = tmp_path / "a.jpg"
    data = jpeg(photo(random, 400, 400))
    path.write_bytes(data[: int(share * len(data))])
    assert common_jpeg(path.read_bytes())  # and TensorFlow's decoder names no file
    with pytest.raises(tf.errors.OpError, match=r"a\.jpg: .*truncated"):
        decoded(path)


def test_a_jpeg_that_only_pillow_reads_is_read_at_the_same_place(tmp_path, random, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(photo(random)))

    def refuse(**arguments):
        raise tf.errors.InvalidArgumentError(None, None, "Invalid JPEG data")

    monkeypatch.setattr(tf.raw_ops, "DecodeJpeg", refuse)
    pixels, scale, _ = decoded(path, 2.0)
    assert pixels.shape == (45, 70, 3)
    np.testing.assert_allclose(scale, 0.5)


def test_decoding_asks_for_a_share_of_the_memory(tmp_path, random, monkeypatch):
    path, asked = tmp_path / "a.jpg", []
    path.write_bytes(jpeg(photo(random)))
    share = image_tensors.BUDGET.share
    monkeypatch.setattr(
        image_tensors.BUDGET, "share", lambda cost: asked.append(cost) or share(cost)
    )
    decoded(path)
    decoded(path, 2.0)
    assert asked == [6 * 90 * 140, 6 * 90 * 140 // 4]


def test_orientations_are_set_upright():
    """The eight ways to store an upright image of two rows, by hand, in the words of EXIF."""
    upright = np.array([[1, 2, 3], [4, 5, 6]])[..., None]
    stored = {
        1: [[1, 2, 3], [4, 5, 6]], 2: [[3, 2, 1], [6, 5, 4]],
        3: [[6, 5, 4], [3, 2, 1]], 4: [[4, 5, 6], [1, 2, 3]],
        5: [[1, 4], [2, 5], [3, 6]], 6: [[3, 6], [2, 5], [1, 4]],
        7: [[6, 3], [5, 2], [4, 1]], 8: [[4, 1], [5, 2], [6, 3]],
    }  # fmt: skip
    for orientation, pixels in stored.items():
        turned = set_upright(np.array(pixels)[..., None], orientation)
        np.testing.assert_array_equal(turned, upright, err_msg=str(orientation))


def test_the_orientation_of_exif_is_read_in_both_orders_of_bytes():
    little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0"
    assert (exif_orientation(little), exif_orientation(big)) == (6, 8)
    assert exif_orientation(b"II*\0\x08\0\0\0\0\0") == 1
    assert exif_orientation(little[:14]) is None
    assert exif_orientation(b"") is None
