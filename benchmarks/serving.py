"""How fast an export serves files, and where the time goes.

python benchmarks/serving.py [exports/NAME/1]

Requests of 1, 8 and 64 photos (JPEG, 640 x 480), one after the other, through the signature in this
process, without the time that a server and its connection add. Without an argument, `native32` with
new weights is exported and measured.
"""

import io
import json
import pathlib
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from sit_keras.models.backbone import SiTBackbone
from sit_keras.serving.export import export

SECONDS = 8.0


def photos(count):
    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        small = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((640, 480), Image.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def measure(function):
    """Returns the seconds of each call, for some seconds after a few to warm up."""
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return np.array(times)


def main(version):
    """Prints the table for an exported version."""
    functions = tf.saved_model.load(str(version)).signatures
    of_files, of_views = functions["serving_bytes"], functions["patches"]
    contract = json.loads((pathlib.Path(version) / "assets" / "contract.json").read_text())
    shape = contract["preprocessing"]["image_shape"]
    print("batch   requests/s   images/s   p50 ms   p99 ms   outside the network")
    for batch in (1, 8, 64):
        files = tf.constant(photos(batch))
        whole = measure(lambda files=files: of_files(files))
        # On images of the network's own size little else than the network is left.
        views = tf.constant(np.random.default_rng(1).random((batch, *shape)), tf.float32)
        network = measure(lambda views=views: of_views(views))
        outside = 1 - np.median(network) / np.median(whole)
        p50, p99 = np.percentile(whole, [50, 99]) * 1e3
        rate = 1 / whole.mean()
        numbers = f"{rate:10.1f}   {rate * batch:8.1f}   {p50:6.1f}   {p99:6.1f}   {outside:8.0%}"
        print(f"{batch:5}   {numbers}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            encoder = pathlib.Path(folder) / "encoder.keras"
            SiTBackbone.from_preset("native32", load_weights=False).save(encoder)
            main(export(encoder, pathlib.Path(folder) / "export"))
