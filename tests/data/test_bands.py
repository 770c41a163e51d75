"""Images of any number of channels from files, and what becomes of those with other ones."""

import concurrent.futures
import sys
import time
import weakref

import numpy as np
import pytest
from PIL import Image

from sit_keras.data import bands
from sit_keras.data.channel_statistics import LEAST_STD, channel_statistics
from sit_keras.data.decoding_budget import DecodingBudget
from sit_keras.data.images import ImageSet
from sit_keras.data.manifest import check_files
from sit_keras.data.reading import AS_STORED, check_image, read_image, short_side
from sit_keras.data.sources import load_source

tifffile = pytest.importorskip("tifffile")

FIVE = np.random.default_rng(0).integers(0, 256, (20, 30, 5), dtype=np.uint8)
RGB, RGBA = FIVE[..., :3], FIVE[..., :4]
FIRST = np.moveaxis(FIVE, -1, 0)


def save(path, pixels, **how):
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix in (".tif", ".ome"):
        tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **how})
    else:
        Image.fromarray(pixels, how.pop("mode", None)).save(path, **how)
    return path


@pytest.mark.parametrize(
    ("name", "pixels", "how"),
    [
        ("last.npy", FIVE, {}),
        ("first.npy", FIRST, {}),
        ("fortran.npy", np.asfortranarray(FIVE), {}),
        ("beside.tif", FIVE, {"planarconfig": "contig"}),
        ("planes.tif", FIRST, {"planarconfig": "separate"}),
        ("pages.tif", FIRST, {}),
        ("named.tif", FIRST, {"metadata": {"axes": "CYX"}}),
        ("big.tif", FIVE, {"planarconfig": "contig", "bigtiff": True}),
        ("deflate.tif", FIVE, {"planarconfig": "contig", "compression": "zlib", "tile": (16, 16)}),
        ("lzw.tif", FIVE, {"planarconfig": "contig", "compression": "lzw", "predictor": True}),
    ],
)
def test_five_channels_are_read_wherever_the_file_has_them(tmp_path, name, pixels, how):
    file = save(tmp_path / name, pixels, **how)
    np.testing.assert_array_equal(read_image(file, channels=5), FIVE)
    assert short_side(file, channels=5) == 20


@pytest.mark.parametrize("name", ["values.npy", "values.tif"])
@pytest.mark.parametrize(
    ("dtype", "factor", "value_range"),
    [("uint16", 257, None), ("uint16", 10, (0, 2550)), ("int32", 10, (0, 2550)),
     ("float32", 1 / 255, (0, 1)), ("float64", 2, (0, 510))],
)  # fmt: skip
def test_values_of_more_than_8_bits_are_scaled_by_the_range_that_is_said(
    tmp_path, name, dtype, factor, value_range
):
    values = (FIVE * np.float64(factor)).astype(dtype)
    file = save(tmp_path / name, values, **({} if "npy" in name else {"planarconfig": "contig"}))
    np.testing.assert_array_equal(read_image(file, None, value_range, 5), FIVE)
    low, high = value_range or (0, 65535)
    note = f"values from {low} to {high} scaled to 0 to 255"
    assert check_image(file, value_range, 5) == note


def test_colours_of_16_bits_in_a_tiff_keep_all_bits_where_a_range_is_given(tmp_path):
    file = save(tmp_path / "rgb.tif", RGB.astype("uint16") * 10, photometric="rgb")
    np.testing.assert_array_equal(read_image(file, None, (0, 2550)), RGB)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (FIVE / 255, "nothing says which of them are black and white.*--value_range=0,1"),
        (FIVE.astype("uint16"), "at most|almost black: give --value_range=0,4095"),
        (FIVE.astype("int16"), "nothing says which of them"),
        (np.full((4, 4, 5), np.nan), "not finite"),
        (FIVE.astype(complex), "of the type complex128: expected whole numbers or floats"),
        (np.array(["a"]), "expected whole numbers or floats"),
        (np.array([{}], object), "no whole NumPy file of numbers"),
        (FIVE[None], r"its shape is \(1, 20, 30, 5\).*each image as an array of its own"),
        (FIVE[..., :4], "its shape is .*--channels=4"),
        (FIVE[..., 0], "it has 1 channel, and 5 are expected: train with --channels=1"),
        (np.zeros((0, 9, 5)), "no pixels"),
    ],
)
def test_arrays_that_nothing_is_known_of_are_refused_by_the_name_of_the_file(tmp_path, values, why):
    file = save(tmp_path / "odd.npy", values)
    for read in (read_image, check_image):
        with pytest.raises(OSError, match=f"odd.npy: .*(?:{why})"):
            read(file, channels=5)


def test_an_array_that_takes_too_much_memory_is_refused_by_its_header(tmp_path):
    file = tmp_path / "huge.npy"
    header = {"descr": "<f8", "fortran_order": False, "shape": (20_000, 10_000, 5)}
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
    for read in (read_image, check_image):
        with pytest.raises(OSError, match="20000 x 10000 x 5 values would take 16.0 GB of memory"):
            read(file, channels=5)


def test_a_stack_and_a_file_that_is_cut_short_are_refused_by_name(tmp_path):
    stack = save(tmp_path / "stack.tif", np.stack([FIVE] * 4), metadata={"axes": "ZYXS"})
    with pytest.raises(OSError, match=r"stack.tif: it is a stack with the axes ZYXS"):
        read_image(stack, channels=5)
    for name, pixels in (("cut.npy", FIVE), ("cut.tif", FIRST)):
        cut = save(tmp_path / name, pixels)
        cut.write_bytes(cut.read_bytes()[:900])
        with pytest.raises(OSError, match=f"{name}: "):
            check_image(cut, channels=5)


def test_a_large_file_of_channels_is_read_at_a_whole_fraction_of_its_size(tmp_path):
    file = save(tmp_path / "large.npy", FIVE)
    small = read_image(file, enough=5, channels=5)
    assert small.shape == (5, 8, 5)
    np.testing.assert_allclose(small[0, 0], FIVE[:4, :4].mean(axis=(0, 1)), atol=0.51)


# What files of colours become where one channel is taken, and of grey where three are.
GREY = FIVE[..., 0]
LUMA = np.asarray(Image.fromarray(RGB).convert("L"))


@pytest.mark.parametrize(
    ("name", "pixels", "how", "expected"),
    [
        ("grey.png", GREY, {}, GREY),
        ("grey16.png", GREY.astype("uint16") * 257, {}, GREY),
        ("grey.npy", GREY, {}, GREY),
        ("colours.png", RGB, {}, LUMA),
        ("colours.npy", RGB, {}, LUMA),
        ("solid.png", np.dstack([RGB, np.full((20, 30), 255, "uint8")]), {}, LUMA),
        ("clear.png", np.dstack([RGB, np.zeros((20, 30), "uint8")]), {}, np.full((20, 30), 255)),
        ("alpha.png", np.dstack([GREY, np.full((20, 30), 255, "uint8")]), {"mode": "LA"}, GREY),
    ],
)  # fmt: skip
def test_one_channel_is_the_grey_of_a_file_or_the_luma_of_its_colours(
    tmp_path, name, pixels, how, expected
):
    file = save(tmp_path / name, pixels, **how)
    np.testing.assert_array_equal(read_image(file, channels=1)[..., 0], expected)
    if expected is GREY:  # and three channels are that grey three times
        np.testing.assert_array_equal(read_image(file), np.repeat(GREY[..., None], 3, axis=-1))


def test_transparency_is_a_channel_only_where_as_many_are_asked_for(tmp_path):
    file = save(tmp_path / "rgba.png", RGBA)
    np.testing.assert_array_equal(read_image(file, channels=4), RGBA)
    assert check_image(file, channels=4) == AS_STORED and check_image(file) == ""
    assert read_image(file).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("name", "convert", "given", "channels"),
    [
        ("palette.png", "P", 3, 4),
        ("print.jpg", "CMYK", 3, 4),
        ("colours.png", "RGB", 3, 5),
        ("grey.png", "L", 1, 5),
        ("clear.png", "RGBA", 4, 5),
        ("pair.png", "LA", 2, 5),
    ],
)
def test_other_numbers_of_channels_are_refused_by_the_name_of_the_file(
    tmp_path, name, convert, given, channels
):
    file = tmp_path / name
    Image.fromarray(RGB).convert(convert).save(file)
    with pytest.raises(OSError, match=f"{name}: it has {given} channels?, and {channels} are exp"):
        read_image(file, channels=channels)


def test_five_channels_where_three_are_taken_name_the_flag(tmp_path):
    for file in (
        save(tmp_path / "a.npy", FIVE),
        save(tmp_path / "a.tif", FIVE, planarconfig="contig"),
    ):
        with pytest.raises(OSError, match=f"{file.name}: .*--channels=5"):
            read_image(file)


def test_without_tifffile_its_extra_is_named(tmp_path, monkeypatch):
    file = save(tmp_path / "a.tif", FIVE, planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        ImportError, match=r'tifffile is not installed: pip install "sit-keras\[ban'
    ):
        read_image(file, channels=5)


def test_without_imagecodecs_its_extra_is_named_and_the_file_is_not_remembered_as_broken(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    how = {"planarconfig": "contig", "compression": "lzw"}
    file = save(tmp_path / "lzw.tif", FIVE, **how)
    save(tmp_path / "cut.tif", FIVE, **how)
    (tmp_path / "cut.tif").write_bytes(file.read_bytes()[:200])
    with monkeypatch.context() as patch:
        for module in [name for name in sys.modules if name.split(".")[0] == "tifffile"]:
            patch.delitem(sys.modules, module)  # it is imported anew, and does not find the other
        patch.setitem(sys.modules, "imagecodecs", None)
        named = r'imagecodecs is not installed: pip install "sit-keras\[bands\]"'
        for ask in (check_image, read_image):
            with pytest.raises(ImportError, match=named):
                ask(file, channels=5)
        with pytest.raises(ImportError, match=named):
            check_files(str(tmp_path), ["lzw.tif"], channels=5)
        zlib = save(tmp_path / "zlib.tif", FIVE, planarconfig="contig", compression="zlib")
        np.testing.assert_array_equal(read_image(zlib, channels=5), FIVE)  # which it can do without
        with pytest.raises(OSError, match="cut.tif: "):
            check_image(tmp_path / "cut.tif", channels=5)
    assert check_files(str(tmp_path), ["lzw.tif"], channels=5)["lzw.tif"].reason == ""


@pytest.mark.parametrize("name", ["values.npy", "values.tif"])
@pytest.mark.parametrize("ask", [check_image, read_image])
def test_no_more_arrays_are_held_than_the_budget_allows(tmp_path, monkeypatch, name, ask):
    """A thread that waits holds no array, and one that looks at an array has its share."""
    how = {} if "npy" in name else {"planarconfig": "contig"}
    file = save(tmp_path / name, FIVE.astype("uint16") * 257, **how)
    budget = DecodingBudget(4 * FIVE.nbytes)  # of two bytes each, decoding one takes as much
    limits, alive, most, shares = bands._limits, [], [], []

    def spy(found, value_range):
        alive.append(found)
        most.append(len(alive))
        shares.append(budget._in_use)
        time.sleep(0.01)
        alive.pop()
        return limits(found, value_range)

    held = weakref.WeakSet()
    make = bands._bands

    class Array(np.ndarray):
        """An array that can be counted while it is alive."""

        __hash__ = object.__hash__

    def counted(values, *others):
        values = values.view(Array)
        held.add(values)
        found = make(values, *others)
        most_held.append(len(held))
        return found

    most_held = []
    monkeypatch.setattr(bands, "BUDGET", budget)
    monkeypatch.setattr(bands, "_limits", spy)
    monkeypatch.setattr(bands, "_bands", counted)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: ask(file, channels=5), range(12)))
    assert len(most) == 12 and max(most) == 1
    assert set(shares) == {4 * FIVE.nbytes} and budget._in_use == 0
    assert max(most_held) <= 2  # one, and one whose thread is about to end


# A pixel for each of three opacities: all, none and a half.
COLOUR = np.array([500, 1000, 1500])
OVER_WHITE = [[64, 128, 191], [255, 255, 255], [159, 191, 223]]  # of 0 to 2000, by hand


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize(
    ("dtype", "factor", "opaque"), [("uint16", 1, 65535), ("uint32", 1000, 2**32 - 1),
                                    ("float32", 1 / 2000, 1.0), ("int16", 2, 32767)],
)  # fmt: skip
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_transparency_of_more_than_8_bits_is_laid_over_white_where_a_range_is_given(
    tmp_path, alpha, dtype, factor, opaque, planes
):
    opacity = np.array([1, 0, 0.5])[:, None]
    colours = COLOUR * (opacity if alpha == "assocalpha" else np.ones((3, 1))) * factor
    pixels = np.concatenate([colours, opacity * opaque], axis=1).astype(dtype)[None]
    pixels = np.moveaxis(pixels, -1, 0) if planes == "separate" else pixels
    how = {"photometric": "rgb", "planarconfig": planes, "extrasamples": [alpha]}
    file = save(tmp_path / "rgba.tif", np.ascontiguousarray(pixels), **how)
    value_range = (0, 2000 * factor)
    assert read_image(file, None, value_range).tolist() == [OVER_WHITE]
    assert (
        check_image(file, value_range) == f"values from 0 to {2000 * factor:g} scaled to 0 to 255"
    )
    assert short_side(file) == 1
    luma = np.asarray(Image.fromarray(np.uint8([OVER_WHITE])).convert("L"))
    np.testing.assert_array_equal(read_image(file, None, value_range, 1)[..., 0], luma)


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_transparent_colours_of_16_bits_are_those_of_pillow(tmp_path, alpha):
    random = np.random.default_rng(3)
    pixels = random.integers(0, 65536, (40, 30, 4)).astype("uint16")
    if alpha == "assocalpha":
        pixels[..., :3] = pixels[..., :3] * (pixels[..., 3:] / 65535)
    file = save(tmp_path / "rgba.tif", pixels, photometric="rgb", extrasamples=[alpha])
    ours = read_image(file, None, (0, 65534)).astype(int)
    # Pillow divides 8 bits by 8 bits where the colours are multiplied.
    most = 2 if alpha == "unassalpha" else 4
    np.testing.assert_allclose(ours, read_image(file, None, (0, 65535)), atol=most)


def test_grey_of_16_bits_with_transparency_is_laid_over_white(tmp_path):
    pixels = np.uint16([[[0, 65535], [65535, 65535], [0, 0], [20000, 32768]]])
    how = {"planarconfig": "contig", "extrasamples": ["unassalpha"]}
    file = save(tmp_path / "la.tif", pixels, **how)
    assert read_image(file)[0].tolist() == [[level] * 3 for level in (0, 255, 255, 166)]
    dark = save(tmp_path / "dark.tif", pixels // np.uint16([20, 1]), **how)
    with pytest.raises(OSError, match="almost black: give --value_range=0,4095"):
        check_image(dark)


def test_transparency_that_is_not_finite_is_refused_by_name(tmp_path):
    pixels = np.float32([[[0, 0.5, 1, np.nan], [1, 1, 1, 1]]])
    file = save(tmp_path / "nan.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    for ask in (read_image, check_image):
        with pytest.raises(OSError, match="nan.tif: some of its values .* are not finite"):
            ask(file, value_range=(0, 1))


def test_a_range_for_print_colours_of_16_bits_names_the_kind_of_tiff_that_takes_one(tmp_path):
    values = np.full((4, 5, 4), 9000, "uint16")
    file = save(tmp_path / "cmyk.tif", values, photometric="separated")
    assert read_image(file, None, (0, 65535)).shape == (4, 5, 3)
    with pytest.raises(OSError, match="cmyk.tif: .*=0,9000 cannot be .* convert it to an RGB TIFF"):
        check_image(file, (0, 9000))


def test_mean_and_deviation_are_those_of_the_pixels(tmp_path):
    pixels = np.stack([FIVE, FIVE // 2])
    mean, std, count = channel_statistics(ImageSet(pixels, np.array([0, 1])), seed=0)
    np.testing.assert_allclose(mean, (pixels / 255).mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(std, (pixels / 255).std(axis=(0, 1, 2)), atol=1e-4)
    files = [str(save(tmp_path / f"{i}.npy", image)) for i, image in enumerate(pixels)]
    of_files = ImageSet(np.array(files), np.array([0, 1]), channels=5)
    assert channel_statistics(of_files, seed=0) == (mean, std, count) and count == 2


def test_a_constant_channel_has_a_deviation_to_divide_by():
    images = ImageSet(np.zeros((2, 4, 4, 2), "uint8"), np.array([0, 1]))
    assert channel_statistics(images, seed=0)[1] == (round(LEAST_STD, 4),) * 2


def test_a_folder_of_channels_is_read_with_them_and_names_the_rest(tmp_path, caplog):
    save(tmp_path / "a.npy", FIVE)
    save(tmp_path / "b.tif", FIVE, planarconfig="contig")
    save(tmp_path / "c.png", RGB)
    found = load_source(f"folder:{tmp_path}", channels=5).train
    assert len(found) == 2 and found.channels == 5
    assert "c.png: it has 3 channels, and 5 are expected" in caplog.text
    assert len(load_source(f"folder:{tmp_path}").train) == 1


def test_the_digits_have_one_channel_where_one_is_asked_for():
    grey, colours = (load_source("digits", channels=channels).train.items for channels in (1, 3))
    assert grey.shape[1:] == (8, 8, 1) and (np.repeat(grey, 3, axis=-1) == colours).all()
