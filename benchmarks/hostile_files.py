"""What the worst files cost a served model: peak memory over idle, and seconds of processor time.

python benchmarks/hostile_files.py [exports/NAME/1]

Each kind is made here and sent alone to `serving_bytes`, each in a process of its own that has
loaded the model and decoded a small file of either format. Without an argument, a small encoder of
224 x 224 pixels is exported. Exits with 1 if a file costs more than `sit_keras/serving/limits.py`
states. It takes two minutes.
"""

import functools
import io
import multiprocessing
import os
import pathlib
import resource
import struct
import sys
import tempfile
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image

from sit_keras.models.backbone import SiTBackbone
from sit_keras.serving import limits
from sit_keras.serving.export import export

MOST_MEMORY, MOST_SECONDS = 200, 2.0  # MiB over idle, seconds of one core
WIDE, HIGH, SIDE = 4096, 3072, 2048  # a JPEG and a PNG at the limits
STRIP = (192, 65500)  # as many pixels, none of which can be left out while decoding
CMYK_HIGH = HIGH * 3 // 4
UNREDUCED = (1791, 7024)  # one pixel less than what a model of 224 would reduce by two
SCANS = limits.MAX_JPEG_SCAN_PIXELS // limits.MAX_JPEG_PIXELS


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data, before=b"", depth=8, colour=6, interlaced=0, after=b"") -> bytes:
    """Returns a PNG of compressed data, RGBA unless another colour is given."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    parts = header, before, chunk(b"IDAT", data), after, chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rows(width, height, values=256) -> bytes:
    """Returns compressed rows of so many bytes, of random values and the costliest filter.

    As many values as make the longest data that are served.
    """
    pixels = np.random.default_rng(0).integers(0, values, (height, 1 + width), dtype=np.uint8)
    pixels[:, 0] = 4
    return zlib.compress(pixels.tobytes(), 6)


def passes(values) -> bytes:
    """Returns compressed rows of the largest RGBA image in the seven passes of Adam7, as `rows`."""
    random, data = np.random.default_rng(0), []
    for across, down in ((8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)):
        shape = (SIDE // down, 1 + 4 * SIDE // across)
        pixels = random.integers(0, values, shape, dtype=np.uint8)
        pixels[:, 0] = 4
        data.append(pixels.tobytes())
    return zlib.compress(b"".join(data), 6)


def zeros(mebibytes) -> bytes:
    """Returns so many MiB of zeros in about a thousandth of it."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(mebibytes)) + packer.flush()


SMALL = zlib.compress(bytes(33 * 8))


@functools.cache
def bomb() -> bytes:
    """Returns 512 MiB of zeros, made once."""
    return zeros(512)


PNGS = {
    "PNG, 512 MiB of zTXt": lambda: png(8, 8, SMALL, chunk(b"zTXt", b"a\0\0" + bomb())),
    "PNG, 512 MiB of iTXt after it": lambda: png(
        8, 8, SMALL, after=chunk(b"iTXt", b"a\0\1\0\0\0" + bomb())
    ),
    "PNG, 512 MiB of iCCP": lambda: png(8, 8, SMALL, chunk(b"iCCP", b"a\0\0" + bomb())),
    "PNG, a million chunks": lambda: png(8, 8, SMALL, chunk(b"tEXt") * 1_000_000),
    "PNG, 8,000 chunks": lambda: png(8, 8, SMALL, chunk(b"tEXt") * 8_000),
    "PNG, a million empty IDAT": lambda: png(8, 8, SMALL, chunk(b"IDAT") * 1_000_000),
    "PNG, a palette of 16 MiB": lambda: png(8, 8, SMALL, chunk(b"PLTE", bytes(16 << 20))),
    "PNG, 8,000 palettes": lambda: png(8, 8, SMALL, chunk(b"PLTE", bytes(768)) * 8_000),
    "PNG of 13,000 x 13,000": lambda: png(13_000, 13_000, bomb(), depth=8, colour=2),
    "PNG, 512 MiB after its last row": lambda: png(8, 8, bomb()),
    "PNG at the limit, 512 MiB after it": lambda: png(SIDE, SIDE, zeros(512 + 16)),
    "PNG at the limit, 5 GiB after it": lambda: png(SIDE, SIDE, zeros(5 << 10)),
    "PNG at the limit, RGB": lambda: png(SIDE, SIDE, rows(3 * SIDE, SIDE, 7), colour=2),
    "PNG at the limit, RGBA": lambda: png(SIDE, SIDE, rows(4 * SIDE, SIDE, 4)),
    "PNG at the limit, 16 bits": lambda: png(
        SIDE, SIDE // 2, rows(8 * SIDE, SIDE // 2, 4), depth=16
    ),
    "PNG at the limit, interlaced": lambda: png(SIDE, SIDE, passes(4), interlaced=1),
    "PNG at the limit, a strip": lambda: png(SIDE << 7, SIDE >> 7, rows(512 * SIDE, SIDE >> 7, 4)),
    "PNG at the limit, all noise": lambda: png(SIDE, SIDE, rows(4 * SIDE, SIDE)),
}


def segment(marker: int, data: bytes = b"") -> bytes:
    """Returns a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def scan(components, first, last, bits, data, table=0) -> bytes:
    """Returns a scan over some coefficients of some components."""
    which = b"".join(bytes([component, table]) for component in components)
    return segment(0xDA, bytes([len(components)]) + which + bytes([first, last, bits])) + data


def packed(bits: str) -> bytes:
    """Returns bits as the data of a scan."""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


# Each table has one code, 0: no difference, an end of 32,767 blocks, one coefficient that is not 0.
TABLES = b"".join(
    segment(0xC4, bytes([number, 1, *[0] * 15, symbol]))
    for number, symbol in ((0x00, 0x00), (0x10, 0xE0), (0x11, 0x01))
)
SKIP = "0" + "1" * 14


def progressive(width, height, scans, components=3, before=b"", frame=0xC2) -> bytes:
    """Returns a JPEG whose first scan is followed by others, `scans` in all."""
    numbers = range(1, components + 1)
    about = b"".join(bytes([number, 0x11, 0]) for number in numbers)
    start = [
        b"\xff\xd8",
        segment(0xDB, bytes([0, *[1] * 64])),
        segment(frame, struct.pack(">BHHB", 8, height, width, components) + about),
        TABLES,
        before,
        scan(list(numbers), 0, 0, 0, bytes(8)),
    ]
    return b"".join([*start, *scans]) + b"\xff\xd9"


def refinements(width, height, count, components=3, **settings) -> bytes:
    """Returns a JPEG of so many scans over all blocks, each of which changes nothing."""
    blocks = -(-width // 8) * -(-height // 8)
    data = packed(SKIP * -(-blocks // 32767))
    scans = [scan([1 + i % components], 1, 63, 0x10, data) for i in range(count - 1)]
    return progressive(width, height, scans, components, **settings)


def dense(count) -> bytes:
    """Returns a grey JPEG in whose scans every coefficient takes a bit."""
    first = scan([1], 1, 63, 0x01, bytes(WIDE * HIGH // 64 * 126 // 8 + 1), table=1)
    data = packed(SKIP + "0" * 63 * 32767) * (WIDE * HIGH // 64 // 32767)
    scans = [first, *[scan([1], 1, 63, 0x10, data)] * (count - 2)]
    return progressive(WIDE, HIGH, scans, components=1)


def between(segments) -> bytes:
    """Returns a JPEG with segments before its last scan."""
    file = refinements(WIDE, HIGH, SCANS)
    last = file.rindex(b"\xff\xda")
    return file[:last] + segments + file[last:]


def photo(kind="JPEG", mode="RGB", noise=False, size=(WIDE, HIGH), **settings) -> bytes:
    """Returns a file as programs write it, of waves or of noise."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0]) if noise else (size[1] // 16 + 1, size[0] // 16 + 1)
    random = np.random.default_rng(0)
    bands = [Image.fromarray(random.integers(0, 256, shape, np.uint8)) for _ in range(channels)]
    image = Image.merge(mode, [band.resize(size, Image.BICUBIC) for band in bands])
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


FULL = {"quality": 95, "subsampling": 0}
JPEGS = {
    f"JPEG, {SCANS} scans": lambda: refinements(WIDE, HIGH, SCANS),
    f"JPEG, {SCANS} scans of 4 components": lambda: refinements(WIDE, CMYK_HIGH, SCANS, 4),
    f"JPEG, {SCANS} scans of a strip": lambda: refinements(*STRIP, SCANS),
    f"JPEG, {SCANS} scans, restarts": lambda: refinements(
        WIDE, HIGH, SCANS, before=segment(0xDD, b"\0\1")
    ),
    "JPEG, 2,000 scans": lambda: refinements(WIDE, HIGH, 2_000),
    "JPEG, 256 scans of 1 x 1": lambda: refinements(1, 1, limits.MAX_JPEG_SCANS),
    "JPEG, a million scans of 1 x 1": lambda: refinements(1, 1, 1_000_000),
    "JPEG, 19 scans of 30 MiB": lambda: dense(19),
    "JPEG, 7 million comments": lambda: between(segment(0xFE) * 7_000_000),
    "JPEG, 1.5 million tables": lambda: between(segment(0xC4, bytes(17)) * 1_500_000),
    "JPEG, a million segments first": lambda: refinements(
        8, 8, 2, before=segment(0xE5) * 1_000_000
    ),
    "JPEG, arithmetic coding": lambda: refinements(WIDE, HIGH, SCANS, frame=0xCA),
    "JPEG that is all header": lambda: progressive(WIDE, HIGH, []),
    "JPEG that says 20,000 x 20,000": lambda: progressive(20_000, 20_000, []),
    "JPEG at the limit, noise": lambda: photo(noise=True, quality=90, subsampling=0),
    "JPEG at the limit, a strip": lambda: photo(size=STRIP, **FULL),
    "JPEG at the limit, progressive": lambda: photo(progressive=True, **FULL),
    "JPEG at the limit, CMYK": lambda: photo(
        mode="CMYK", size=(WIDE, CMYK_HIGH), quality=95, progressive=True
    ),
    "JPEG at the limit, hardly reduced": lambda: photo(size=UNREDUCED, progressive=True, **FULL),
    "the same in CMYK": lambda: photo(
        mode="CMYK", size=(UNREDUCED[0], 5268), quality=95, progressive=True
    ),
}

OTHERS = {
    "32 MiB of zeros": lambda: bytes(32 << 20),
    "33 MiB of zeros": lambda: bytes(33 << 20),
    **{kind: functools.partial(photo, kind, size=(600, 400)) for kind in ("GIF", "BMP", "WEBP")},
    "100,000 of 1 x 1 in a request": lambda: [png(1, 1, SMALL)] * 100_000,
}


def export_small(folder) -> None:
    """Exports an encoder that takes 224 x 224 pixels and computes next to nothing."""
    encoder = SiTBackbone(
        image_shape=(224, 224, 3), patch_size=56, hidden_dim=8, num_layers=1, num_heads=1, mlp_dim=8
    )
    encoder.save(pathlib.Path(folder) / "encoder.keras")
    export(pathlib.Path(folder) / "encoder.keras", pathlib.Path(folder) / "small", check=False)


def memory(name) -> float:
    """Returns a figure of /proc/self/status in MiB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def seconds() -> float:
    """Returns the processor time of this process and its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(version, files, results) -> None:
    """Sends files to a model in this process; puts the answer, MiB and seconds into a queue."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the decoders say of damaged files
    ask = tf.saved_model.load(str(version)).signatures["serving_bytes"]
    warm = [photo(kind, size=(64, 64)) for kind in ("JPEG", "PNG")]
    for _ in range(2):
        ask(image_bytes=tf.constant(warm))
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    idle, begin = memory("VmRSS"), seconds()
    try:
        error = ask(image_bytes=tf.constant(files))["error"].numpy()[0].decode()
        answer = error or "served"
    except tf.errors.InvalidArgumentError as refusal:
        answer = next(line for line in refusal.message.splitlines() if "At most" in line)
        answer = answer[answer.index("At most") :]
    results.put((answer, memory("VmHWM") - idle, seconds() - begin))


def main(version) -> bool:
    """Prints the table for an exported version; returns whether the bound holds."""
    # A fork of a process that has imported TensorFlow, and has not started it, saves its start.
    context = multiprocessing.get_context("fork")
    held = True
    print(f"{'kind':36} {'bytes':>12} {'MiB':>5} {'CPU s':>6}   answer")
    for kind, make in {**PNGS, **JPEGS, **OTHERS}.items():
        file = make()
        files = file if isinstance(file, list) else [file]
        results = context.SimpleQueue()
        process = context.Process(target=measure, args=(version, files, results))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{kind}: the process ended with {process.exitcode}.")
        answer, mebibytes, spent = results.get()
        within = mebibytes <= MOST_MEMORY and spent <= MOST_SECONDS
        note = "" if within else "   OVER THE BOUND"
        held &= within
        length = sum(map(len, files))
        print(f"{kind:36} {length:12,} {mebibytes:5.0f} {spent:6.2f}   {answer[:44]}{note}")
    print(f"Bound: {MOST_MEMORY} MiB, {MOST_SECONDS:g} s: {'held' if held else 'BROKEN'}.")
    return held


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if len(sys.argv) > 1:
        sys.exit(not main(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        exporting = multiprocessing.get_context("fork").Process(target=export_small, args=(folder,))
        exporting.start()
        exporting.join()
        sys.exit(not main(pathlib.Path(folder) / "small" / "1"))
