import base64
import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from sit_keras.data import image_formats, pixel_values, reading
from sit_keras.data.decoding_budget import DecodingBudget
from sit_keras.data.images import ImageSet
from sit_keras.data.reading import SEVERAL_FRAMES, check_image, read_image

RED = np.full((10, 14, 3), (200, 30, 40), np.uint8)
# A red and a blue square beside each other, 32 x 16 pixels, by pillow-heif 1.8.
HEIC = zlib.decompress(base64.b85decode(
    b"c-"
    b"muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw3kxwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN=qY27)O-"
    b"telydmj>p6L`8v|R3<1dqb%7F#N;c;EXjo{`IA{tQ~;#!WELdn1L;zrGG|6+kkACMBDoI?fBydX!N9=JoB-"
    b"4z;lRkl`2Rmh0W(MiGYHA;Vsc0XN@_YWGNQ>WP-tYG_G;a%XAcw?9B5!*;AsE}w<G~ov$-"
    b"%HEI!x?v_m*KKc^@!Ii~_B%FDn8RKg&VSzM3`^_T+`Yb56+f*hs*b-MtF{{R2~10c-"
    b"=q%VMIka$66MJ7liGY1C;kdnwO$c2S5FxXfdnV4Byfb2QBDT$yko}j_Fp7TWdk}gZ-"
    b"@cRGPQ~v*F;%ooFuw(82gRyr1c$fbFeQEJezx@~9-"
    b"Ew&vucLW%H{a!o041Z4s3OCsYR6<=y_)+@OMS98lW{=ogW9deF%!#=>`+wasC`te;BwsY$6tF!e>J(333c}V2hw;"
    b"xuWIN`+W1{t-uT<!nf~UUQ@iW_Pn6wb`ObrX51Y!LvK2NN9{{DAmd*"
))  # fmt: skip


def save(path, pixels=RED, **options):
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def tiff(path, pixels, photometric, **tags):
    """Writes (H, W) or (H, W, C) of any type as an uncompressed TIFF of exactly these tags."""
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    numbers = {"ExtraSamples": 338, "PlanarConfiguration": 284, "BitsPerSample": 258}
    entries = {
        256: width, 257: height, 258: (8 * pixels.dtype.itemsize,) * samples, 259: 1,
        262: photometric, 277: samples, 278: height, 339: (kind,) * samples,
        **{numbers[name]: value for name, value in tags.items()},
    }  # fmt: skip
    if tags.get("PlanarConfiguration") == 2:
        pixels = np.moveaxis(pixels, 2, 0)
    planes = samples if tags.get("PlanarConfiguration") == 2 else 1
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    size = len(data) // planes
    entries[279] = (size,) * planes
    entries[273] = tuple(i * size for i in range(planes))  # Pillow adds where they begin
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    for number, value in entries.items():
        directory.tagtype[number] = 4 if number in (273, 279) else 3
        directory[number] = value
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory.tobytes(8) + data)
    return path


def refusal(path, value_range=None):
    """The sentence with which a file is refused, in the check and in reading alike."""
    with pytest.raises(OSError) as checked:
        check_image(path, value_range)
    with pytest.raises(OSError) as read:
        read_image(path, value_range=value_range)
    assert str(checked.value) == str(read.value)
    assert str(checked.value).startswith(f"{path}: ")
    return str(checked.value)


# --- Modes and orientation ------------------------------------------------------------------------


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
        "clear.tif": (clear, (255, 255, 255)),
        "cmyk.jpg": (rgb.convert("CMYK"), (200, 30, 40)),
        "cmyk.tif": (rgb.convert("CMYK"), (200, 30, 40)),
        "ycbcr.tif": (rgb.convert("YCbCr"), (200, 30, 40)),
        "photo.bmp": (rgb, (200, 30, 40)),
        "photo.webp": (rgb, (200, 30, 40)),
        "photo.tiff": (rgb, (200, 30, 40)),
        "photo.ppm": (rgb, (200, 30, 40)),
        "photo.tga": (rgb, (200, 30, 40)),
    }
    for name, (image, colour) in cases.items():
        image.save(tmp_path / name)
        pixels = read_image(tmp_path / name)
        assert pixels.shape == (10, 14, 3) and pixels.dtype == np.uint8, name
        assert np.abs(pixels.astype(int) - colour).max() <= 8, name
        note = check_image(tmp_path / name)
        assert note == ("values from 0 to 65535 scaled to 0 to 255" if "16" in name else "")


# An upright picture as a camera stores it, for each orientation of EXIF.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}
LOSSLESS = {
    "jpg": {"quality": 100, "subsampling": 0},
    "png": {},
    "webp": {"lossless": True},
    "tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "avif": {"quality": 100, "subsampling": "4:4:4"},
}


def four_corners():
    """An upright picture with a corner of each colour, (16, 24, 3)."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12, 0] = pixels[:8, 12:, 1] = pixels[8:, :12, 2] = 250
    return pixels


@pytest.mark.parametrize("kind", LOSSLESS)
def test_exif_orientation_is_applied_in_every_format(tmp_path, kind):
    if kind == "avif" and not image_formats.HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    for orientation, stored in STORED.items():
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{kind}"
        save(path, stored(four_corners()), exif=exif, **LOSSLESS[kind])
        upright = read_image(path)
        assert upright.shape == (16, 24, 3)
        assert np.abs(upright.astype(int) - four_corners()).max() < 40, orientation


def test_the_orientation_may_be_in_xmp(tmp_path):
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<rdf tiff:Orientation="6"/>')
    save(tmp_path / "a.png", STORED[6](four_corners()), pnginfo=xmp)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), four_corners())


def directory(*entries):
    """The EXIF of these entries of 12 bytes, which ends where their values begin, at byte 26."""
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)


TURNED = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)  # orientation 6
ODD_EXIF = {
    "a text for a number": (
        directory(TURNED, struct.pack("<HHII", 282, 2, 8, 38)) + b"seventy\0", 6
    ),
    "a ratio over zero": (directory(TURNED, struct.pack("<HHII", 282, 5, 1, 38)) + bytes(8), 6),
    "a value of 4 GiB": (directory(TURNED, struct.pack("<HHII", 271, 2, 2**32 - 1, 38)), 6),
    "a directory within itself": (directory(TURNED, struct.pack("<HHII", 0x8769, 4, 1, 8)), 6),
    "an orientation that is none": (directory(struct.pack("<HHIHH", 0x112, 3, 1, 9, 0)), 1),
    "four bytes": (b"II*\0", 1),
    "no bytes": (b"", 1),
    "other bytes": (b"\xff" * 40, 1),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD_EXIF)
def test_odd_exif_is_not_the_fault_of_the_pixels(tmp_path, what):
    exif, orientation = ODD_EXIF[what]
    buffer = io.BytesIO()
    pixels = STORED[orientation](four_corners())
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=100, subsampling=0)
    jpeg, exif = buffer.getvalue(), b"Exif\0\0" + exif
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    save(tmp_path / "a.png", pixels, exif=exif)
    for name in ("a.jpg", "a.png"):
        assert check_image(tmp_path / name) == ""
        upright = read_image(tmp_path / name)
        assert upright.shape == (16, 24, 3), name
        assert np.abs(upright.astype(int) - four_corners()).max() < 40


def test_xmp_as_a_text_in_a_tiff_is_not_the_fault_of_the_pixels(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700], tags.tagtype[700] = "<rdf/>", 2  # bytes are usual there
    save(tmp_path / "a.tif", tiffinfo=tags)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RED)


@pytest.mark.parametrize("name", ["big.jpg", "big.png"])
def test_a_large_image_is_read_smaller(tmp_path, name):
    save(tmp_path / name, np.repeat(np.repeat(RED, 40, 0), 40, 1))  # 400 x 560
    assert read_image(tmp_path / name).shape == (400, 560, 3)
    small = read_image(tmp_path / name, enough=90)
    assert 90 <= small.shape[0] <= 140
    assert small.shape[1] / small.shape[0] == pytest.approx(1.4, abs=0.02)
    assert np.abs(small.astype(int) - RED[0, 0]).max() <= 8
    assert read_image(tmp_path / name, enough=250).shape == (400, 560, 3)


def test_bands_of_rows_give_the_pixels_of_the_whole(tmp_path, random, monkeypatch):
    pixels = random.integers(0, 256, (103, 70, 4), dtype=np.uint8)
    save(tmp_path / "clear.png", pixels)
    save(tmp_path / "grey.png", pixels[..., 0].astype(np.uint16) * 257)
    Image.fromarray(pixels[..., :3]).quantize(16).save(tmp_path / "a.gif")
    for name in ("clear.png", "grey.png", "a.gif"):
        whole = [read_image(tmp_path / name, enough) for enough in (None, 23, 10)]
        monkeypatch.setattr(pixel_values, "_BAND", 70 * 8)
        for enough, expected in zip((None, 23, 10), whole, strict=True):
            np.testing.assert_array_equal(read_image(tmp_path / name, enough), expected)
        monkeypatch.undo()


# --- What values mean -----------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 256).reshape(16, 16)


@pytest.mark.parametrize(
    ("name", "values", "value_range", "says"),
    [
        ("float.tif", RAMP.astype(np.float32), (0, 1), r"mode F.* in 0 to 1.*value_range=0,1\."),
        ("hounsfield.tif", (RAMP * 2000 - 1000).astype(np.int32), (-1000, 1000),
         r"mode I, 32 bits with sign\) lie in -1000 to 1000.*value_range=-1000,1000"),
        ("flat.tif", np.zeros((4, 4), np.int32), (0, 1), "lie in 0 to 0.*value_range=0,1"),
        ("12_bits.png", (RAMP * 4095).astype(np.uint16), (0, 4095),
         "mode I;16, 16 bits.* 0 to 4095.*almost black.*value_range=0,4095.*value_range=0,65535"),
        ("12_bits.tif", (RAMP * 4095).astype(np.uint16), (0, 4095), "value_range=0,4095"),
        ("black.png", np.zeros((4, 4), np.uint16), (0, 4095), "lie in 0 to 0.*value_range=0,4095"),
    ],
)  # fmt: skip
def test_values_without_a_meaning_are_refused_until_it_is_given(
    tmp_path, name, values, value_range, says
):
    path = save(tmp_path / name, values)
    with pytest.raises(OSError, match=says):
        check_image(path)
    refusal(path)
    low, high = value_range
    expected = np.rint((values - float(low)) / (high - low) * 255).astype(np.uint8)
    np.testing.assert_array_equal(read_image(path, None, value_range)[..., 0], expected)
    assert check_image(path, value_range) == f"values from {low} to {high} scaled to 0 to 255"


def test_values_beyond_the_range_are_clipped(tmp_path):
    path = save(tmp_path / "a.tif", np.array([[-2000, -1000, 0, 400, 3000]], np.int32))
    assert read_image(path, None, (-1000, 400))[0, :, 0].tolist() == [0, 0, 182, 255, 255]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_even_with_a_range(tmp_path, odd, monkeypatch):
    values = RAMP.astype(np.float32)
    values[3, 3] = odd
    path = save(tmp_path / "a.tif", values)
    assert "not finite" in refusal(path) and "not finite" in refusal(path, (0, 1))
    monkeypatch.setattr(pixel_values, "_BAND", 16)  # a row at a time
    assert "not finite" in refusal(path, (0, 1))


def test_16_bits_have_the_full_range_once_a_value_is_above_12_bits(tmp_path):
    values = np.array([[0, 257, 4096, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        path = save(tmp_path / name, values)
        assert read_image(path)[0, :, 0].tolist() == [0, 1, 16, 255]
        assert check_image(path) == "values from 0 to 65535 scaled to 0 to 255"
    path = save(tmp_path / "b.png", values[:, :2])
    assert "almost black" in refusal(path)
    assert read_image(path, None, (0, 65535))[0, :, 0].tolist() == [0, 1]


def test_a_file_may_name_its_largest_value(tmp_path):
    levels = np.array([[0, 1000, 4095]], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + levels.tobytes())
    (tmp_path / "plain.pgm").write_bytes(b"P2 3 1 4095\n0 1000 4095\n")
    packed = bytes([0, 0x03, 0xE8, 0xFF, 0xF0])  # 12 bits each: 0, 1000, 4095
    whole = tiff(tmp_path / "a.tif", np.zeros((1, 3), np.uint16), 1, BitsPerSample=12)
    whole.write_bytes(whole.read_bytes()[:-6] + packed + b"\0")
    for name in ("a.pgm", "plain.pgm", "a.tif"):
        assert read_image(tmp_path / name)[0, :, 0].tolist() == [0, 62, 255], name
        assert "from 0 to 4095" in check_image(tmp_path / name)
        brighter = read_image(tmp_path / name, None, (0, 2000))[0, :, 0]
        assert np.abs(brighter.astype(int) - [0, 127, 255]).max() <= 1, name  # Pillow rounds PNM
    (tmp_path / "dark.pgm").write_bytes(b"P2 3 1 65535\n0 1000 4095\n")
    assert "almost black" in refusal(tmp_path / "dark.pgm")


def test_values_without_sign_of_32_bits_stay_positive(tmp_path):
    path = tiff(tmp_path / "a.tif", np.array([[0, 2**31, 2**32 - 1]], np.uint32), 1)
    assert "32 bits without sign) lie in 0 to 4.29497e+09" in refusal(path)
    assert read_image(path, None, (0, 2**32 - 1))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", [np.int8, np.int16])
def test_small_values_with_sign_are_not_taken_for_large_ones(tmp_path, kind):
    path = tiff(tmp_path / "a.tif", np.array([[-100, 0, 100]], kind), 1)
    assert "lie in -100 to 100" in refusal(path)
    assert read_image(path, None, (-100, 100))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_where_the_smallest_value_is_white_the_picture_is_inverted(tmp_path, kind):
    largest = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[kind]
    path = tiff(tmp_path / "a.tif", np.array([[0, largest]], kind), photometric=0)
    assert read_image(path, None, (0, largest))[0, :, 0].tolist() == [255, 0]


def test_a_transparent_grey_of_16_bits_is_laid_over_white(tmp_path):
    values = Image.fromarray(np.array([[0, 300, 65535, 301]], np.uint16))
    values.save(tmp_path / "a.png", transparency=300)
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 255, 1]


def colour16(path, values, alpha=None):
    """Writes (H, W, 3) uint16, and (H, W) of transparency, as PNG."""
    pixels = values if alpha is None else np.dstack([values, alpha])
    height, width, channels = pixels.shape

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


@pytest.mark.parametrize("write", [colour16, lambda path, values: tiff(path, values, 2)])
def test_colours_of_16_bits_have_the_full_range(tmp_path, write):
    values = np.array([[(0, 257, 65535), (4096, 300, 9)]], np.uint16)
    path = write(tmp_path / "a.png", values)
    assert read_image(path)[0].tolist() == [[0, 1, 255], [16, 1, 0]]
    assert check_image(path) == "values from 0 to 65535 scaled to 0 to 255"
    assert check_image(path, (0, 65535)) == "values from 0 to 65535 scaled to 0 to 255"
    if write is colour16:
        assert "value_range=0,4095 cannot be applied" in refusal(path, (0, 4095))
    else:
        assert read_image(path, None, (0, 4095))[0].tolist() == [[0, 16, 255], [255, 19, 1]]
    path = write(tmp_path / "dark.png", values // 20)
    assert "are at most 4095" in refusal(path) and "convert it to 8 bits" in refusal(path)
    assert read_image(path, None, (0, 65535)).max() == 12


def test_transparency_of_16_bits_does_not_hide_that_the_colours_are_dark(tmp_path):
    dark, opaque = np.full((2, 2, 3), 4000, np.uint16), np.full((2, 2), 65535, np.uint16)
    assert "are at most 4095" in refusal(colour16(tmp_path / "a.png", dark, opaque))
    bright = colour16(tmp_path / "b.png", dark * 16, opaque)
    assert read_image(bright)[0, 0].tolist() == [250] * 3


@pytest.mark.parametrize(
    ("shape", "photometric", "tags"),
    [
        ((2, 2, 4), 2, {}),  # near infrared without a name, which Pillow takes for transparency
        ((2, 2, 4), 2, {"ExtraSamples": 0}),
        ((2, 2, 4), 2, {"ExtraSamples": 0, "PlanarConfiguration": 2}),
        ((2, 2, 5), 2, {"ExtraSamples": (0, 0)}),
        ((2, 2, 5), 2, {"ExtraSamples": (2, 0)}),
        ((2, 2, 5), 5, {"ExtraSamples": 0}),
        ((2, 2, 13), 1, {}),
        ((2, 2, 2), 1, {"ExtraSamples": 0}),
    ],
)
def test_channels_that_would_be_dropped_or_mistaken_are_refused(tmp_path, shape, photometric, tags):
    path = tiff(tmp_path / "a.tif", np.full(shape, 90, np.uint8), photometric, **tags)
    assert f"it has {shape[2]} channels" in refusal(path)


@pytest.mark.parametrize("planar", [1, 2])
def test_channels_of_colour_and_transparency_are_read(tmp_path, planar):
    pixels = np.full((2, 2, 4), (10, 20, 30, 255), np.uint8)
    pixels[0, 0, 3] = 0
    colour = tiff(tmp_path / "a.tif", pixels[..., :3], 2, PlanarConfiguration=planar)
    assert read_image(colour)[0, 0].tolist() == [10, 20, 30]
    if planar == 1:
        clear = tiff(tmp_path / "b.tif", pixels, 2, ExtraSamples=2)
        assert read_image(clear)[0].tolist() == [[255] * 3, [10, 20, 30]]


def test_a_mode_that_does_not_become_rgb_is_named(tmp_path):
    Image.new("LAB", (4, 4)).save(tmp_path / "a.tif")
    assert "mode LAB" in refusal(tmp_path / "a.tif")


# --- Formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_of_several_frames_is_read_and_that_is_said(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=90)
    assert check_image(tmp_path / name) == SEVERAL_FRAMES
    assert np.abs(read_image(tmp_path / name).astype(int) - (255, 0, 0)).max() <= 3
    frames[0].save(tmp_path / f"one_{name}")
    assert check_image(tmp_path / f"one_{name}") == ""


@pytest.mark.skipif(not image_formats.HAS_HEIF, reason='needs pip install "sit-keras[heic]"')
def test_heic_is_read(tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    assert check_image(tmp_path / "IMG_1.HEIC") == ""
    pixels = read_image(tmp_path / "IMG_1.HEIC").astype(int)
    assert pixels.shape == (16, 32, 3)
    assert np.abs(pixels[:, :14] - (200, 30, 40)).max() < 12
    assert np.abs(pixels[:, 18:] - (20, 60, 220)).max() < 12
    assert ".heic" in image_formats.EXTENSIONS and ".heic" not in image_formats.OTHER_IMAGES


@pytest.mark.skipif(not image_formats.HAS_AVIF, reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path):
    save(tmp_path / "a.avif")
    assert np.abs(read_image(tmp_path / "a.avif").astype(int) - RED).max() <= 8
    assert ".avif" in image_formats.EXTENSIONS


def test_pictures_that_are_not_read_are_known_with_what_helps():
    code = """if True:
        import sys
        sys.modules["pi_heif"] = None  # as if it were not installed
        import importlib.util
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "pi_heif" else found(name)
        from sit_keras.data.image_formats import EXTENSIONS, OTHER_IMAGES
        print(OTHER_IMAGES[".heic"], ".heic" in EXTENSIONS)
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == 'pip install "sit-keras[heic]" reads them False\n', result.stderr
    hints = image_formats.OTHER_IMAGES
    assert "camera" in hints[".nef"] and "--value_range" in hints[".dcm"]
    assert not set(image_formats.EXTENSIONS) & set(hints)


def test_every_ending_is_one_of_a_format_that_pillow_reads():
    Image.init()
    formats = image_formats.readable_formats()
    ours = {ending: Image.EXTENSION.get(ending, "HEIF") for ending in image_formats.EXTENSIONS}
    assert {ending for ending, name in ours.items() if name not in (*formats, "MPO")} == set()


# --- Broken files ---------------------------------------------------------------------------------

SAVED = {
    "a.jpg": {}, "progressive.jpg": {"progressive": True}, "a.png": {}, "a.bmp": {}, "a.gif": {},
    "a.webp": {}, "a.tif": {}, "lzw.tif": {"compression": "tiff_lzw"},
    "jpeg.tif": {"compression": "jpeg"}, "a.ppm": {}, "a.tga": {}, "a.avif": {},
}  # fmt: skip


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_found_by_the_check_and_named(tmp_path, random, name, share):
    if name == "a.avif" and not image_formats.HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    path = save(tmp_path / name, random.integers(0, 256, (300, 200, 3), np.uint8), **SAVED[name])
    assert check_image(path) == "" and read_image(path).shape == (300, 200, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refusal(path)


@pytest.mark.skipif(not image_formats.HAS_HEIF, reason='needs pip install "sit-keras[heic]"')
def test_a_truncated_heic_is_found_by_the_check_and_named(tmp_path):
    for size in (0, 100, 400, len(HEIC) - 20):
        (tmp_path / "a.heic").write_bytes(HEIC[:size])
        assert str(tmp_path) in refusal(tmp_path / "a.heic")


def test_whatever_pillow_raises_is_the_fault_of_that_file(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png")
    for error in (TypeError("x"), struct.error("x"), RecursionError(), MemoryError(), KeyError(3)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
        refusal(path)


def test_what_is_no_file_of_an_image_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a regular file" in refusal(tmp_path / "pipe.jpg")
    assert "not a regular file" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "none.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "none.jpg")
    assert "No such file" in refusal(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "symbolic links" in refusal(tmp_path / "loop.jpg")
    (tmp_path / "linked.jpg").symlink_to(save(tmp_path / "a.jpg"))
    assert read_image(tmp_path / "linked.jpg").shape == RED.shape


def test_a_program_named_like_a_picture_is_not_started(tmp_path):
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (tmp_path / "a.jpg").write_bytes(page)
    assert "no image of a kind that is read" in refusal(tmp_path / "a.jpg")


def test_a_file_that_changes_after_the_check_is_named_when_it_is_read(tmp_path):
    path = save(tmp_path / "a.tif")
    assert check_image(path) == ""
    save(path, RAMP.astype(np.float32))
    with pytest.raises(OSError, match=r"a\.tif: .*mode F"):
        read_image(path)


def test_a_pipeline_uses_the_range_and_names_the_file_that_fails(tmp_path):
    import tensorflow as tf

    from sit_keras.data.pipeline import eval_batches
    from sit_keras.models.preprocessing import ImagePreprocessing

    path = save(tmp_path / "a.png", (RAMP * 4095).astype(np.uint16))
    images = ImageSet(np.array([str(path)]), np.array([0]), value_range=(0, 4095))
    preprocessing = ImagePreprocessing((16, 16, 3), mean=(0.0,) * 3, std=(1.0,) * 3, crop=1.0)
    (batch,) = eval_batches(images, preprocessing)
    np.testing.assert_allclose(batch[0, :, :, 0], RAMP, atol=1 / 255)
    path.write_bytes(b"")
    with pytest.raises(tf.errors.OpError, match=r"a\.png: its content is no image"):
        list(eval_batches(images, preprocessing))


# --- Memory ---------------------------------------------------------------------------------------


def test_threads_share_a_budget_and_a_large_one_is_alone():
    budget, lock = DecodingBudget(100), threading.Lock()
    running, seen = [], []

    def work(cost):
        with budget.share(cost):
            with lock:
                running.append(cost)
                seen.append(tuple(running))
            time.sleep(0.002)
            with lock:
                running.remove(cost)

    threads = [threading.Thread(target=work, args=(cost,)) for cost in [40, 60, 30, 500, 100] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(seen) == 40 and not running
    assert all(sum(costs) <= 100 or costs == (500,) for costs in seen)
    assert any(len(costs) > 1 for costs in seen)


def test_a_share_is_given_back_when_the_decoding_fails():
    budget = DecodingBudget(1)
    for _ in range(2):
        with pytest.raises(KeyError), budget.share(1):
            raise KeyError


def test_an_image_of_too_many_pixels_is_refused_in_a_sentence(tmp_path):
    path = save(tmp_path / "a.bmp")
    head = bytearray(path.read_bytes())
    head[18:26] = struct.pack("<ii", 20_000, 20_000)
    path.write_bytes(head)
    assert "more than 178,956,970 pixels: make it smaller" in refusal(path)


def test_an_image_that_would_take_too_much_memory_is_refused_unless_all_of_it_is_wanted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(reading, "MOST_MEMORY", 10_000)
    path = save(tmp_path / "a.png", np.zeros((60, 60, 3), np.uint8))
    for look in (check_image, lambda path: read_image(path, 20)):
        with pytest.raises(OSError, match=r"a\.png: to decode its 60 x 60 pixels .*smaller"):
            look(path)
    assert read_image(path).shape == (60, 60, 3)


@pytest.mark.slow
def test_six_large_images_at_a_time_stay_below_a_gibibyte_without_a_warning(tmp_path):
    Image.new("P", (13_000, 13_000), 3).save(tmp_path / "a.gif")
    Image.new("RGB", (12_000, 9_000), "red").save(tmp_path / "a.jpg", progressive=True)
    Image.new("RGBA", (10_000, 10_000), (9, 9, 9, 9)).save(tmp_path / "a.png")
    code = """if True:
        import concurrent.futures, re, sys
        from sit_keras.data.reading import check_image, read_image
        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
        idle = peak()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(check_image, 4 * sys.argv[1:]))
            list(pool.map(lambda path: read_image(path, 896), 2 * sys.argv[1:]))
        print((peak() - idle) // 1024)
    """
    files = [str(tmp_path / name) for name in ("a.gif", "a.jpg", "a.png")]
    result = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True)
    assert result.stderr == ""
    assert int(result.stdout) < 1024
