"""Two views of each image and their corruptions, from images of the size of the views.

Ours are compiled by XLA, as they are unless one turns that off. PyTorch's are those of its good
step, of the whole batch at once, and those of its straightforward one, image by image.
"""

import numpy as np

from benchmarks.contenders.timing import repeated
from benchmarks.turns import Contender
from sit_keras.config.presets import run_config
from sit_keras.config.settings import RunConfig

# Of each size in pixels, the preset whose views these are, and how many images make a batch.
CASES = {32: ("native32", 64), 96: ("native96", 32), 224: ("tiny", 16)}
TIMES = 10  # in a round, whose figure is their median


def contenders(quick: bool) -> list[Contender]:
    found = []
    for size in (32,) if quick else CASES:
        work = {"size": size}

        def add(who, function, package, work=work, **changes):
            found.append(
                Contender(
                    case=f"{work['size']} px",
                    name=who,
                    target=f"{__name__}:{function}",
                    arguments={**work, **changes},
                    packages=(package,),
                )
            )

        add("tensorflow float32 (ours)", "ours", "tensorflow", compiled=True)
        add("tensorflow float32 (ours, not compiled)", "ours", "tensorflow", compiled=False)
        add("torch float32 (good)", "good", "torch", compiled=False)
        add("torch float32 (good, compiled)", "good", "torch", compiled=True)
        add("torch float32 (straightforward)", "straightforward", "torch")
    return found


def ours(size: int, compiled: bool):
    import tensorflow as tf

    from sit_keras import TwoViews
    from sit_keras.training.view_maker import ViewMaker

    config = _config(size)
    views = TwoViews(size, config.views, config.corruption, config.preprocessing)
    make_views = ViewMaker(views, num_channels=3, compiled=compiled)
    images, step = tf.constant(_images(config)), tf.constant(0, tf.int64)
    return _repeated(config, lambda: make_views(images, step)["rotation"].numpy())


def good(size: int, compiled: bool):
    import torch

    from benchmarks.contenders.torch_step import views_maker

    config = _config(size)
    make_views, images = views_maker(config, compiled), torch.from_numpy(_images(config))
    return _repeated(config, lambda: make_views(images))


def straightforward(size: int):
    from torch.utils.data import default_collate

    from benchmarks.contenders.torch_straightforward import Views, corrupt

    config = _config(size)
    dataset = Views(_images(config), config)

    def work():
        for clean, _ in default_collate([dataset[index] for index in range(len(dataset))]):
            corrupt(clean, config.corruption)

    return _repeated(config, work)


def _config(size) -> RunConfig:
    preset, batch_size = CASES[size]
    return run_config(preset, batch_size=batch_size)


def _images(config):
    size = config.model.image_size
    return np.random.default_rng(0).integers(0, 256, (config.batch_size, size, size, 3), np.uint8)


def _repeated(config, work):
    measure = repeated(work, TIMES)

    def figures():
        ms = measure()["ms"]
        return {"ms": ms, "images_per_s": 1e3 * config.batch_size / ms}

    return figures
