"""Views and corruptions of a whole batch at once in PyTorch, as a good implementation makes them.

From the same random numbers they are the views of `sit_keras.augment.pretext.TwoViews`.

Shapes: B images, M = 2 B views in a row, S side, H W image, K blocks. A box or block is (top, left,
height, width) in pixels.
"""

import itertools
import math

import torch

from sit_keras.config.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from sit_keras.config.settings import RunConfig

CROP_TRIES, MAX_BLOCKS = 10, 64
LUMA = (0.299, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION = 0, 1, 2

_MEAN, _STD = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
_LUMA = torch.tensor(LUMA).view(3, 1, 1)
_ORDERS = torch.tensor(list(itertools.permutations(range(3))))

# How many uniform numbers each part takes for a view.
NUMBERS = {
    "flip": 1,
    "crop": 2 * CROP_TRIES + 2,
    "rotation": 1,
    "jitter": 4,
    "grey": 4,
    "blur": 4,
    "blur_kernel": 2,
    "drop": 1 + 4 * MAX_BLOCKS,
    "replace": 1 + 4 * MAX_BLOCKS,
    "donor": 1,
}


def draw(images: int, size: int) -> dict[str, torch.Tensor]:
    """Returns the random numbers of a batch: `NUMBERS` of them (M, n), and `noise` (M, 3, S, S)."""
    numbers = {name: torch.rand(2 * images, count) for name, count in NUMBERS.items()}
    return {**numbers, "noise": torch.randn(2 * images, 3, size, size)}


@torch.no_grad()
def two_views(images, draws: dict[str, torch.Tensor], config: RunConfig):
    """Makes two views of each image, the views of an image side by side.

    Args:
        images: (B, H, W, 3) uint8.
        draws: of `draw`.
        config: RunConfig. Its `views`, `corruption` and image size.

    Returns:
        `corrupted` and `clean` (M, 3, S, S) float32, normalised, and `rotation` (M,) int64.
    """
    size, views, corruption = config.model.image_size, config.views, config.corruption
    x = images.permute(0, 3, 1, 2).float() / 255
    boxes = crop_boxes(draws["crop"], *x.shape[2:], views)
    x = resized_crop(x, boxes, draws["flip"][:, 0] < views.flip_probability, size)
    strength = torch.tensor([views.brightness, views.contrast, views.saturation])
    factors = 1 + strength * (2 * draws["jitter"][:, :3] - 1)
    x = color_jitter(x, factors, _ORDERS[_integer(draws["jitter"][:, 3], 0, 6).long()])
    rotation = _integer(draws["rotation"][:, 0], 0, 4).long()
    clean = rotate((x - _MEAN) / _STD, rotation)
    return corrupt(clean, draws, corruption), clean, rotation


def corrupt(clean, draws, corruption):
    """Corrupts views (M, 3, S, S) in the paper's order: grey, blur, drop, replace."""
    size, x = clean.shape[-1], clean
    low = max(1, int(0.05 * size))
    if corruption.grey:
        mask = block_mask(_block(draws["grey"], size, low, size)[:, None], size)
        x = torch.where(mask, x.mean(1, keepdim=True), x)
    if corruption.blur:
        block = _block(draws["blur"], size, low, size)
        radius = torch.floor(_integer(draws["blur_kernel"][:, 0], 3, 16) / 2)
        x = blur_block(x, block, radius, 0.1 + 5 * draws["blur_kernel"][:, 1])
    if corruption.drop > 0:
        mask = _small_blocks(draws["drop"], size, corruption.drop)
        x = torch.where(mask, draws["noise"], x)
    if corruption.replace > 0:
        mask = _small_blocks(draws["replace"], size, corruption.replace)
        x = torch.where(mask, x[donors(draws["donor"][:, 0])], x)
    return x


def _integer(uniform, low, high):
    return low + torch.floor(uniform * (high - low)).clamp(max=high - low - 1)


def crop_boxes(uniforms, height: int, width: int, views):
    """Returns random-resized-crop boxes (M, 4) of uniform numbers (M, 2 tries + 2)."""
    low_area, high_area = views.crop_area
    low, high = views.crop_ratio
    area = height * width * (low_area + (high_area - low_area) * uniforms[:, :CROP_TRIES])
    log_low, log_high = math.log(low), math.log(high)
    ratio = torch.exp(log_low + (log_high - log_low) * uniforms[:, CROP_TRIES : 2 * CROP_TRIES])
    widths = torch.sqrt(area * ratio).round().clamp(min=1)
    heights = torch.sqrt(area / ratio).round().clamp(min=1)
    fits = (widths <= width) & (heights <= height)
    first, found = fits.int().argmax(1, keepdim=True), fits.any(1)
    # The largest centre crop whose ratio is allowed.
    whole_width = max(1.0, round(height * high)) if width / height > high else float(width)
    whole_height = max(1.0, round(width / low)) if width / height < low else float(height)
    crop_height = torch.where(found, heights.gather(1, first)[:, 0], whole_height)
    crop_width = torch.where(found, widths.gather(1, first)[:, 0], whole_width)
    top = _random_or_centre(uniforms[:, -2], height - crop_height, found)
    left = _random_or_centre(uniforms[:, -1], width - crop_width, found)
    return torch.stack([top, left, crop_height, crop_width], 1)


def _random_or_centre(uniform, room, found):
    offset = torch.minimum(torch.floor(uniform * (room + 1)), room)
    return torch.where(found, offset, torch.floor(room / 2))


def resized_crop(images, boxes, flip, size: int):
    """Cuts two boxes (M, 4) out of each image (B, 3, H, W), resizes them and mirrors some.

    Antialiased bicubic, by one matrix for the rows and one for the columns.
    """
    height, width = images.shape[2:]
    top, left, box_height, box_width = boxes.unbind(1)
    rows = _interpolation(top, box_height, height, size, torch.zeros_like(flip))  # (M, S, H)
    columns = _interpolation(left, box_width, width, size, flip)  # (M, S, W)
    x = images.repeat_interleave(2, 0)  # (M, 3, H, W)
    return (rows[:, None] @ x @ columns[:, None].transpose(-2, -1)).clamp(0, 1)


def _interpolation(low, extent, length: int, size: int, reverse):
    scale = (extent / size)[:, None]
    out = torch.arange(size, dtype=torch.float32)
    out = torch.where(reverse[:, None], size - 1 - out, out)
    centre = low[:, None] + (out + 0.5) * scale - 0.5
    source = torch.arange(length, dtype=torch.float32)
    distance = ((source - centre[..., None]) / scale.clamp(min=1)[..., None]).abs()
    low, high = low[:, None, None], (low + extent)[:, None, None]
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    weights = torch.where((source >= low) & (source < high), weights, 0.0)
    return weights / weights.sum(-1, keepdim=True)


def color_jitter(images, factors, order):
    """Changes brightness, contrast and saturation by factors (M, 3), each image in its order."""
    for step in range(3):
        kind = order[:, step, None]
        factor = factors.gather(1, kind)[..., None, None]
        kind = kind[..., None, None]
        grey = (images * _LUMA).sum(1, keepdim=True)
        target = torch.where(kind == SATURATION, grey, 0.0)
        target = torch.where(kind == CONTRAST, grey.mean((2, 3), keepdim=True), target)
        images = (factor * images + (1 - factor) * target).clamp(0, 1)
    return images


def rotate(images, quarter_turns):
    """Turns each image clockwise by its number of quarter turns."""
    turns = quarter_turns[:, None, None, None]
    x = torch.where(turns % 2 == 1, images.transpose(2, 3), images)
    x = torch.where((turns == 1) | (turns == 2), x.flip(3), x)
    return torch.where(turns >= 2, x.flip(2), x)


def _block(uniforms, size: int, low: int, high: int):
    margin = max(1, int(0.05 * size))
    corner = _integer(uniforms[..., :2], 0, size - margin)
    extent = _integer(uniforms[..., 2:4], low, max(high, low + 1))
    return torch.cat([corner, extent], -1)


def _small_blocks(uniforms, size: int, max_share: float):
    """Returns the mask of the blocks that make up a random share of the image."""
    wanted = uniforms[:, :1] * max_share * size * size
    numbers = uniforms[:, 1:].unflatten(1, (MAX_BLOCKS, 4))
    blocks = _block(numbers, size, max(1, int(0.05 * size)), int(0.25 * size))
    top, left, height, width = blocks.unbind(-1)
    area = torch.minimum(height, size - top) * torch.minimum(width, size - left)
    return block_mask(blocks, size, area.cumsum(1) - area < wanted)


def block_mask(blocks, size: int, active=None):
    """Marks the pixels that lie in any active block (M, K, 4): (M, 1, S, S) bool."""
    place = torch.arange(size, dtype=torch.float32)
    top, left, height, width = (part[..., None] for part in blocks.unbind(-1))
    rows = (place >= top) & (place < top + height)  # (M, K, S)
    if active is not None:
        rows = rows & active[..., None]
    columns = (place >= left) & (place < left + width)
    return (rows.float().transpose(1, 2) @ columns.float())[:, None] > 0.5


def blur_block(images, block, radius, sigma):
    """Blurs one block (M, 4) of each image by a Gaussian, its borders reflected."""
    size = images.shape[-1]
    top, left, height, width = block.unbind(1)
    bottom, right = (top + height).clamp(max=size), (left + width).clamp(max=size)
    radius = torch.minimum(radius, torch.minimum(bottom - top, right - left) - 1)
    rows = _reflecting_blur(size, top, bottom, radius, sigma)[:, None]
    columns = _reflecting_blur(size, left, right, radius, sigma)[:, None]
    blurred = rows @ images @ columns.transpose(-2, -1)
    return torch.where(block_mask(block[:, None], size), blurred, images)


def _reflecting_blur(length: int, low, high, radius, sigma):
    low, high, radius, sigma = (x[:, None, None] for x in (low, high, radius, sigma))
    out = torch.arange(length, dtype=torch.float32)[None, :, None]
    source = torch.arange(length, dtype=torch.float32)[None, None, :]

    def gaussian(position):
        offset = position - out
        return torch.where(offset.abs() <= radius, torch.exp(-0.5 * (offset / sigma) ** 2), 0.0)

    last = high - 1
    weights = gaussian(source)
    weights = weights + torch.where(source != low, gaussian(2 * low - source), 0.0)
    weights = weights + torch.where(source != last, gaussian(2 * last - source), 0.0)
    weights = torch.where((source >= low) & (source < high), weights, 0.0)
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1.0)


def donors(uniforms):
    """Returns for each view the same view of another image of its group of eight."""
    samples = len(uniforms)
    image, view = torch.arange(samples) // 2, torch.arange(samples) % 2
    first = image // 8 * 8
    group = (samples // 2 - first).clamp(max=8)
    others = (group - 1).clamp(min=1)
    offset = torch.minimum(1 + torch.floor(uniforms * others).long(), group - 1)
    return (first + (image - first + offset) % group) * 2 + view
