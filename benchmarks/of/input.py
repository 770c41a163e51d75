"""Images a second from memory, folders of JPEGs and records, as crops for views at 224 px.

Each contender makes batches of pairs of random crops, (B, 2, 224, 224, 3) uint8, but from memory:
there a batch is the images themselves, 96 px, and the crops are made on the device. `ms` is the
time of one image. Set SIT_KERAS_BEFORE to the folder of another version of this project to have it
measured as well.
"""

import itertools
import os
import pathlib
import sys
import tempfile
import time

from benchmarks.turns import Contender

SIZE, BATCH = 224, 16
PHOTOS = {"1024x768": (1024, 768), "256x256": (256, 256)}
_OURS = "tensorflow float32 (ours)"


def contenders(quick: bool) -> list[Contender]:
    batches = 2 if quick else 12
    found = []

    def add(case, name, function, packages=(), **arguments):
        arguments = {"batches": batches, **arguments}
        found.append(Contender(case, name, f"{__name__}:{function}", arguments, packages))

    before = os.environ.get("SIT_KERAS_BEFORE")
    for case, photo in PHOTOS.items():
        add(f"JPEGs of {case}", _OURS, "ours", photo=photo)
        if before:
            add(f"JPEGs of {case}", f"{_OURS}, before", "ours", photo=photo, project=before)
        add(f"JPEGs of {case}", f"{_OURS}, records", "records", photo=photo)
        add(f"JPEGs of {case}", "tensorflow float32 plain tf.data", "plain", photo=photo)
        add(f"JPEGs of {case}", "torch float32 DataLoader", "torch", ("torch",), photo=photo)
    add("memory, 96x96", _OURS, "memory")
    return found


def ours(photo, batches: int, project: str | None = None):
    import numpy as np

    if project:
        sys.path.insert(0, project)

    from sit_keras.data.images import ImageSet

    folder, paths = _folder(photo)
    return _measured(ImageSet(np.array(paths), np.full(len(paths), -1)), batches, folder)


def records(photo, batches: int):
    from sit_keras.data.records import load_records
    from sit_keras.workflows.pack import pack

    folder, _ = _folder(photo)
    pack(f"folder:{folder.name}", f"{folder.name}/packed")
    images, _ = load_records(f"{folder.name}/packed")
    return _measured(images, batches, folder)


def memory(batches: int):
    import numpy as np

    from sit_keras.data.images import ImageSet

    pixels = np.random.default_rng(0).integers(0, 256, (1024, 96, 96, 3), np.uint8)
    return _measured(ImageSet(pixels, np.full(len(pixels), -1)), 20 * batches)


def _measured(images, batches, folder=None):
    """`folder` is a temporary one that exists as long as the function that is returned."""
    from sit_keras.augment.pretext import TwoViews
    from sit_keras.data.pipeline import step_images

    data = step_images(images, TwoViews(SIZE), BATCH, 0, 10**6)
    return _timed(data, batches, folder)


def plain(photo, batches: int):
    """What one writes at first: decode the file, sample a box twice, cut and resize."""
    import tensorflow as tf

    folder, paths = _folder(photo)

    def crop(image):
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image),
            tf.zeros((1, 0, 4)),
            area_range=(0.08, 1.0),
            min_object_covered=0.0,
            use_image_if_no_bounding_boxes=True,
        )
        crop = tf.slice(image, begin, extent)
        crop = tf.image.resize(crop, (SIZE, SIZE), "bicubic", antialias=True)
        crop = tf.image.random_flip_left_right(tf.clip_by_value(crop, 0, 255))
        return tf.cast(crop, tf.uint8)

    def pair(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.stack([crop(image), crop(image)])

    data = tf.data.Dataset.from_tensor_slices(paths).repeat().shuffle(len(paths))
    data = data.map(pair, tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return _timed(data, batches, folder)


def torch(photo, batches: int):
    """A DataLoader with a worker a core; Pillow decodes, cuts and resizes, as torchvision would."""
    import random

    import numpy as np
    import torch
    from PIL import Image

    folder, paths = _folder(photo)

    def crop(image):
        width, height = image.size
        for _ in range(10):
            area = width * height * random.uniform(0.08, 1.0)
            ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
            w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if w <= width and h <= height:
                break
        else:
            w = h = min(width, height)
        left, top = random.randint(0, width - w), random.randint(0, height - h)
        box = (left, top, left + w, top + h)
        crop = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        return np.asarray(crop)[:, :: random.choice((1, -1))].copy()

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return BATCH * 10**6

        def __getitem__(self, i):
            image = Image.open(paths[i % len(paths)]).convert("RGB")
            return torch.from_numpy(np.stack([crop(image), crop(image)]))

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    loader = torch.utils.data.DataLoader(Pairs(), BATCH, num_workers=cores)
    return _timed(loader, batches, folder)


def _timed(data, count, folder):
    def measure():
        batches = iter(data)  # a new one, since an idle one would go on to make batches
        next(batches)
        begin = time.perf_counter()
        for _ in itertools.islice(batches, count):
            pass
        seconds = time.perf_counter() - begin
        del batches
        images = count * BATCH
        return {"ms": 1e3 * seconds / images, "images_per_s": images / seconds}

    measure.folder = folder
    return measure


def _folder(photo, count: int = 64):
    """Returns a temporary folder, and the paths of JPEGs in it of natural detail."""
    import numpy as np
    from PIL import Image

    random, (width, height) = np.random.default_rng(0), photo
    folder, paths = tempfile.TemporaryDirectory(), []
    pixels = np.zeros((height, width, 3), np.float32)
    for side in 2 ** np.arange(2, 9):  # the amplitude falls with the frequency, as in photos
        noise = random.normal(size=(side, side, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(noise[..., channel]).resize(photo, Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(layer) / side
    pixels = 255 * (pixels - pixels.min()) / np.ptp(pixels)
    for i in range(count):
        shifted = np.roll(pixels, (17 * i, 31 * i), (0, 1)).astype(np.uint8)
        paths.append(str(pathlib.Path(folder.name, f"{i:03}.jpg")))
        Image.fromarray(shifted).save(paths[-1], quality=90)
    return folder, paths
