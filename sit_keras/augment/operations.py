"""Image operations with explicit parameters: (images, parameters) -> images. Nothing random here.

Every operation takes one set of parameters per image, works on the whole batch at once and
compiles under XLA. `draws.py` holds the laws of the parameters.

Shapes: B images, V views, N = B * V views in a row, S output side, H W C image, K blocks.
A box or block is (top, left, height, width) in pixels; it ends at the border where it reaches it.
"""

from keras import ops

# ImageNet's channel statistics, which the authors use for every data set.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# ITU-R 601 luma, which Pillow's "L" mode uses.
LUMA = (0.299, 0.587, 0.114)

BRIGHTNESS, CONTRAST, SATURATION = 0, 1, 2


def normalize(images):
    """Maps images from [0, 1] to zero mean and unit deviation per channel, (..., 3)."""
    return (images - ops.convert_to_tensor(MEAN)) / ops.convert_to_tensor(STD)


def denormalize(images):
    """Inverts `normalize`."""
    return images * ops.convert_to_tensor(STD) + ops.convert_to_tensor(MEAN)


# --- Clean views ----------------------------------------------------------------------------------


def resized_crop(images, boxes, flip, size: int):
    """Cuts boxes out of images, resizes them to a square and mirrors some.

    Crop, resize (antialiased bicubic as in Pillow, which never looks outside of the box) and flip
    are one interpolation matrix for the rows and one for the columns.

    Args:
        images: (B, H, W, C) float32 in [0, 1].
        boxes: (B, V, 4) float32, whole pixels inside the image.
        flip: (B, V) bool, mirror left to right.
        size: int. Side S of the result in pixels.

    Returns:
        (B, V, S, S, C) float32 in [0, 1].
    """
    batch, height, width, channels = ops.shape(images)
    views = boxes.shape[1]
    top, left, box_height, box_width = ops.unstack(boxes, 4, axis=-1)  # (B, V) each
    rows = _interpolation(top, box_height, height, size, ops.zeros_like(flip))  # (B, V, S, H)
    columns = _interpolation(left, box_width, width, size, flip)  # (B, V, S, W)
    x = ops.reshape(images, (batch, 1, height, width * channels))
    x = ops.matmul(rows, x)  # (B, V, S, W * C)
    x = ops.reshape(x, (batch, views, size, width, channels))
    x = ops.einsum("bvpw,bvowc->bvopc", columns, x)  # (B, V, S, S, C)
    return ops.clip(x, 0.0, 1.0)  # cubic weights overshoot


def _interpolation(low, extent, length, size: int, reverse):
    """Returns the (..., size, length) matrix that resizes [low, low + extent) to `size` pixels."""
    scale = (extent / size)[..., None]  # (..., 1)
    out = ops.arange(size, dtype="float32")
    out = ops.where(reverse[..., None], size - 1 - out, out)  # (..., size)
    centre = low[..., None] + (out + 0.5) * scale - 0.5
    source = ops.arange(length, dtype="float32")
    distance = (source - centre[..., None]) / ops.maximum(scale, 1.0)[..., None]
    low, high = low[..., None, None], (low + extent)[..., None, None]
    weights = ops.where((source >= low) & (source < high), _cubic(distance), 0.0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _cubic(x):
    """Keys' cubic convolution kernel with a = -0.5."""
    x = ops.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x <= 1.0, near, ops.where(x < 2.0, far, 0.0))


def color_jitter(images, factors, order):
    """Changes brightness, contrast and saturation by factors, in an order of each image's own.

    Each is a blend `factor * image + (1 - factor) * target` with black, with the mean grey of the
    image or with its greyscale version, clipped after each, as in Pillow's ImageEnhance.

    Args:
        images: (N, H, W, 3) float32 in [0, 1].
        factors: (N, 3) float32, indexed by BRIGHTNESS, CONTRAST, SATURATION; 1 changes nothing.
        order: (N, 3) int, a permutation of those three.

    Returns:
        (N, H, W, 3) float32 in [0, 1].
    """
    for step in range(3):
        kind = order[:, step]  # (N,)
        factor = ops.take_along_axis(factors, kind[:, None], axis=1)[:, :, None, None]
        kind = kind[:, None, None, None]
        grey = ops.sum(images * ops.convert_to_tensor(LUMA), axis=-1, keepdims=True)
        target = ops.where(kind == SATURATION, grey, 0.0)  # (N, H, W, 1)
        target = ops.where(kind == CONTRAST, ops.mean(grey, axis=(1, 2), keepdims=True), target)
        images = ops.clip(factor * images + (1.0 - factor) * target, 0.0, 1.0)
    return images


def rotate(images, quarter_turns):
    """Turns each square image clockwise by its number of quarter turns.

    Args:
        images: (N, S, S, C).
        quarter_turns: (N,) int in 0..3.

    Returns:
        (N, S, S, C).
    """
    turns = quarter_turns[:, None, None, None]
    x = ops.where(turns % 2 == 1, ops.transpose(images, (0, 2, 1, 3)), images)
    x = ops.where((turns == 1) | (turns == 2), ops.flip(x, axis=2), x)
    return ops.where(turns >= 2, ops.flip(x, axis=1), x)


# --- Corruptions ----------------------------------------------------------------------------------


def block_mask(blocks, active, height: int, width: int):
    """Marks the pixels that lie in any active block.

    Args:
        blocks: (N, K, 4) float32.
        active: (N, K) bool.
        height, width: int, of the image in pixels.

    Returns:
        (N, height, width, 1) bool.
    """
    top, left, block_height, block_width = ops.unstack(blocks, 4, axis=-1)  # (N, K) each
    rows = _inside(height, top, block_height) & active[..., None]  # (N, K, height)
    columns = _inside(width, left, block_width)  # (N, K, width)
    covered = ops.einsum("nkh,nkw->nhw", ops.cast(rows, "float32"), ops.cast(columns, "float32"))
    return covered[..., None] > 0.5


def _inside(length: int, low, extent):
    """Returns (..., length) bool: which positions lie in [low, low + extent)."""
    position = ops.arange(length, dtype="float32")
    return (position >= low[..., None]) & (position < (low + extent)[..., None])


def _one_block_mask(images, block):
    """The mask (N, H, W, 1) of one block (N, 4) per image."""
    always = ops.ones((ops.shape(block)[0], 1), dtype="bool")
    return block_mask(block[:, None, :], always, images.shape[1], images.shape[2])


def grey_block(images, block):
    """Takes the colour out of one block: each pixel becomes the plain mean of its channels.

    Args:
        images: (N, H, W, C).
        block: (N, 4) float32.

    Returns:
        (N, H, W, C).
    """
    grey = ops.mean(images, axis=-1, keepdims=True)
    return ops.where(_one_block_mask(images, block), grey, images)


def blur_block(images, block, radius, sigma):
    """Blurs one block by a Gaussian, as if it were an image of its own with reflected borders.

    Args:
        images: (N, H, W, C).
        block: (N, 4) float32.
        radius: (N,) float32, (kernel size - 1) / 2 in whole pixels. It is cut to what the block can
            reflect, its shorter side less one, so that it works at every image size.
        sigma: (N,) float32, in pixels.

    Returns:
        (N, H, W, C).
    """
    height, width = images.shape[1], images.shape[2]
    top, left, block_height, block_width = ops.unstack(block, 4, axis=-1)  # (N,) each
    bottom = ops.minimum(top + block_height, float(height))
    right = ops.minimum(left + block_width, float(width))
    radius = ops.minimum(radius, ops.minimum(bottom - top, right - left) - 1.0)
    rows = _reflecting_blur(height, top, bottom, radius, sigma)  # (N, H, H)
    columns = _reflecting_blur(width, left, right, radius, sigma)  # (N, W, W)
    channels = images.shape[3]
    x = ops.matmul(rows, ops.reshape(images, (-1, height, width * channels)))
    x = ops.reshape(x, (-1, height, width, channels))
    x = ops.einsum("npw,nowc->nopc", columns, x)
    return ops.where(_one_block_mask(images, block), x, images)


def _reflecting_blur(length: int, low, high, radius, sigma):
    """Returns the (N, length, length) banded matrix that blurs [low, high), borders reflected.

    A source pixel counts once directly and once for each border that mirrors it; with a radius
    below the block's side it is mirrored at most once at each.
    """
    low, high, radius, sigma = (x[:, None, None] for x in (low, high, radius, sigma))
    out = ops.arange(length, dtype="float32")[None, :, None]
    source = ops.arange(length, dtype="float32")[None, None, :]

    def gaussian(position):
        offset = position - out
        return ops.where(ops.abs(offset) <= radius, ops.exp(-0.5 * (offset / sigma) ** 2), 0.0)

    last = high - 1.0
    weights = gaussian(source)
    weights = weights + ops.where(source != low, gaussian(2.0 * low - source), 0.0)
    weights = weights + ops.where(source != last, gaussian(2.0 * last - source), 0.0)
    weights = ops.where((source >= low) & (source < high), weights, 0.0)
    total = ops.sum(weights, axis=-1, keepdims=True)  # 0 in rows outside of the block
    return weights / ops.where(total > 0, total, 1.0)


def fill_blocks(images, blocks, active, content):
    """Replaces the active blocks of each image by what `content` has in the same place.

    Args:
        images, content: (N, H, W, C).
        blocks: (N, K, 4) float32.
        active: (N, K) bool.

    Returns:
        (N, H, W, C).
    """
    mask = block_mask(blocks, active, images.shape[1], images.shape[2])
    return ops.where(mask, content, images)


def distort_block(images, block, factors, order):
    """Applies `color_jitter` to one block of normalised images.

    Args:
        images: (N, H, W, 3) float32, normalised.
        block: (N, 4) float32.
        factors, order: as for `color_jitter`.

    Returns:
        (N, H, W, 3) float32, normalised.
    """
    pixels = ops.clip(denormalize(images), 0.0, 1.0)
    distorted = normalize(color_jitter(pixels, factors, order))
    return ops.where(_one_block_mask(images, block), distorted, images)


# --- Mixed images ---------------------------------------------------------------------------------


def mix(images, targets, weight, box):
    """Mixes each image and its target with those of its partner from the other end of the batch.

    Args:
        images: (N, H, W, C).
        targets: (N, K) float32, shares of the classes.
        weight: scalar float32. What an image keeps of its own everywhere (mixup).
        box: (4,) float32, inside the image. Where the partner takes its place (CutMix).

    Returns:
        The mixed images and targets.

    Reference:
        Zhang et al. 2018, mixup; Yun et al. 2019, CutMix.
    """
    height, width = images.shape[1], images.shape[2]
    mask = block_mask(box[None, None], ops.ones((1, 1), dtype="bool"), height, width)
    partners = ops.flip(images, axis=0)
    mixed = ops.where(mask, partners, weight * images + (1.0 - weight) * partners)
    own = weight * (1.0 - ops.mean(ops.cast(mask, "float32")))
    return mixed, own * targets + (1.0 - own) * ops.flip(targets, axis=0)
