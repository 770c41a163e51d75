"""Serving: requests of JPEG files to an export in this process.

`native32` with new weights, photos of 640 x 480 pixels, one request after the other, without the
time that a server and its connection add. PyTorch serves the same network after Pillow, which reads
the files in as many threads as there are cores, at a reduced size as JPEG allows.
"""

import io
import os
import pathlib
import tempfile

from benchmarks.turns import Contender, median_ms

PRESET = "native32"
SECONDS = 3.0


def contenders(quick: bool) -> list[Contender]:
    found = []
    for count in (1, 8) if quick else (1, 8, 64):
        case = f"{count} photo{'s' if count > 1 else ''}"
        work = {"count": count, "seconds": 0.5 if quick else SECONDS}
        for name, who, packages in (
            ("tensorflow float32 (ours)", "ours", ()),
            ("torch float32 and Pillow", "theirs", ("torch",)),
        ):
            found.append(Contender(case, name, f"{__name__}:{who}", work, packages))
    return found


def photos(count: int) -> list[bytes]:
    """Returns JPEG files of 640 x 480 pixels."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        small = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((640, 480), Image.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def ours(count: int, seconds: float):
    import tensorflow as tf

    from sit_keras.models.backbone import SiTBackbone
    from sit_keras.serving.export import export

    with tempfile.TemporaryDirectory() as folder:
        encoder = pathlib.Path(folder) / "encoder.keras"
        backbone = SiTBackbone.from_preset(PRESET, load_weights=False)
        backbone.save(encoder)
        version = export(encoder, pathlib.Path(folder) / "export", check=False)
        functions = tf.saved_model.load(str(version)).signatures
    of_files, of_views = functions["serving_bytes"], functions["patches"]
    files = tf.constant(photos(count))
    # On images of the network's own size little else than the network is left.
    views = tf.random.stateless_uniform((count, *backbone.image_shape), (0, 1))
    return _timed(lambda: of_files(files), lambda: of_views(views), count, seconds)


def theirs(count: int, seconds: float):
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from benchmarks.contenders.torch_encoder import Encoder
    from sit_keras.config.presets import presets
    from sit_keras.models.backbone import SiTBackbone

    network = presets()[PRESET]
    encoder = Encoder(network, SiTBackbone.from_preset(PRESET, load_weights=False).get_weights())
    size = network.image_size, network.image_size
    files, pool = photos(count), ThreadPoolExecutor(os.cpu_count())

    def read(file):
        image = Image.open(io.BytesIO(file))
        image.draft("RGB", size)
        return np.asarray(ImageOps.fit(image.convert("RGB"), size, Image.BICUBIC))

    def serve():
        return [x.numpy() for x in encoder(torch.from_numpy(np.stack(list(pool.map(read, files)))))]

    views = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8)
    return _timed(serve, lambda: encoder(views), count, seconds)


def _timed(whole, network, count, seconds):
    def measure():
        ms, network_ms = median_ms(whole, seconds), median_ms(network, seconds)
        outside = 100 * (1 - network_ms / ms)
        return {"ms": ms, "images/s": 1e3 * count / ms, "% outside the network": outside}

    return measure
