"""A straightforward PyTorch step: images are augmented by Pillow and corrupted one by one, and each
view goes through the network alone.

Shapes: B images, S side.
"""

import math
import random

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.nn import functional

from benchmarks.contenders.torch_network import PretextNetwork, parameter_groups
from sit_keras.config.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig

_MEAN, _STD = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))


class Views(torch.utils.data.Dataset):
    """Two clean views of each image, with their rotations.

    Args:
        images: (N, H, W, 3) uint8 array.
        config: RunConfig.
    """

    def __init__(self, images: np.ndarray, config: RunConfig):
        self.images, self.config = images, config

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index])
        size = self.config.model.image_size
        return [clean_view(image, size, self.config.views) for _ in range(2)]


def clean_view(image: Image.Image, size: int, views: ViewConfig):
    """Crops, resizes, mirrors, colours, normalises and rotates: (3, S, S) float32 and 0 to 3."""
    left, top, width, height = _crop_box(*image.size, views)
    box = left, top, left + width, top + height
    image = image.crop(box).resize((size, size), Image.Resampling.BICUBIC)
    if random.random() < views.flip_probability:
        image = ImageOps.mirror(image)
    changes = [
        (ImageEnhance.Brightness, views.brightness),
        (ImageEnhance.Contrast, views.contrast),
        (ImageEnhance.Color, views.saturation),
    ]
    for change, strength in random.sample(changes, 3):
        image = change(image).enhance(random.uniform(1 - strength, 1 + strength))
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    turns = random.randrange(4)
    return torch.rot90((x - _MEAN) / _STD, -turns, (1, 2)), turns


def _crop_box(width, height, views):
    low, high = views.crop_ratio
    for _ in range(10):
        area = width * height * random.uniform(*views.crop_area)
        ratio = math.exp(random.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    w, h = min(width, round(height * high)), min(height, round(width / low))
    return (width - w) // 2, (height - h) // 2, w, h


def corrupt(clean, corruption: CorruptionConfig):
    """Corrupts images (B, 3, S, S) one by one: grey, blur, drop, replace."""
    images, size = clean.clone(), clean.shape[-1]
    low, high = max(1, int(0.05 * size)), max(int(0.25 * size), max(1, int(0.05 * size)) + 1)
    for index, image in enumerate(images):
        if corruption.grey:
            rows, columns = _block(size, low, size)
            image[:, rows, columns] = image[:, rows, columns].mean(0, keepdim=True)
        if corruption.blur:
            rows, columns = _block(size, low, size)
            image[:, rows, columns] = _blurred(image[:, rows, columns])
        for rows, columns in _blocks(size, low, high, corruption.drop):
            image[:, rows, columns] = torch.randn_like(image[:, rows, columns])
        donor = images[(index + random.randrange(1, len(images))) % len(images)]
        for rows, columns in _blocks(size, low, high, corruption.replace):
            image[:, rows, columns] = donor[:, rows, columns]
    return images


def _block(size, low, high):
    top, left = random.randrange(size - low), random.randrange(size - low)
    height, width = random.randrange(low, high), random.randrange(low, high)
    return slice(top, min(size, top + height)), slice(left, min(size, left + width))


def _blocks(size, low, high, max_share):
    wanted = random.uniform(0, max_share) * size * size
    while wanted > 0:
        rows, columns = _block(size, low, high)
        wanted -= (rows.stop - rows.start) * (columns.stop - columns.start)
        yield rows, columns


def _blurred(block):
    radius = min(random.randrange(3, 16) // 2, min(block.shape[1:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / random.uniform(0.1, 5.1)) ** 2)
    kernel = kernel / kernel.sum()
    x = functional.pad(block[:, None], (radius,) * 4, mode="reflect")
    x = functional.conv2d(x, kernel.view(1, 1, -1, 1))
    return functional.conv2d(x, kernel.view(1, 1, 1, -1))[:, 0]


def straightforward_step(config: RunConfig, images: np.ndarray):
    """Returns a function that trains on the next batch and returns the loss.

    Args:
        config: RunConfig.
        images: (N, H, W, 3) uint8.
    """
    network = PretextNetwork(config.model, fused=False)
    groups = parameter_groups(network, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.peak_learning_rate)
    loader = torch.utils.data.DataLoader(
        Views(images, config), config.batch_size, shuffle=True, drop_last=True
    )
    batches = _endless(loader)
    pairs = torch.arange(2 * config.batch_size).roll(config.batch_size)

    def step():
        (clean_1, rotation_1), (clean_2, rotation_2) = next(batches)
        outputs_1 = network(corrupt(clean_1, config.corruption))
        outputs_2 = network(corrupt(clean_2, config.corruption))
        outputs = [torch.cat(both) for both in zip(outputs_1, outputs_2, strict=True)]
        clean, rotation = torch.cat([clean_1, clean_2]), torch.cat([rotation_1, rotation_2])
        loss = network.loss(outputs, clean, rotation, pairs, config.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _endless(loader):
    while True:
        yield from loader
