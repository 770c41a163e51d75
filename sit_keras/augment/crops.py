"""Random crops of images, which both pre-training and training with labels begin with.

Shapes: B images, V crops of each, S side, H W C image.
"""

from keras import ops

from sit_keras.augment import sampling
from sit_keras.augment.resizing import resized_crop
from sit_keras.config.settings import ViewConfig

# How many uniform numbers a crop takes.
CROP_NUMBERS = 1 + sampling.CROP_NUMBERS


def draw_crops(uniforms, height, width, views: ViewConfig):
    """Draws random boxes, and which of them are mirrored.

    Args:
        uniforms: (..., CROP_NUMBERS) float32 in [0, 1).
        height, width: of the images in pixels, scalar tensors or numbers.
        views: ViewConfig.

    Returns:
        boxes (..., 4) float32 in whole pixels, and flips (...) bool, mirror left to right.
    """
    boxes = sampling.crop_boxes(uniforms[..., 1:], height, width, views)
    return boxes, uniforms[..., 0] < views.flip_probability


def random_crops(images, uniforms, views: ViewConfig, image_size: int):
    """Cuts random boxes out of images, mirrors some, and resizes them.

    Args:
        images: (B, H, W, C) float32 in [0, 1].
        uniforms: (B, V, CROP_NUMBERS) float32 in [0, 1).
        views: ViewConfig.
        image_size: int. Side S in pixels.

    Returns:
        (B, V, S, S, C) float32 in [0, 1].
    """
    height, width = ops.shape(images)[1], ops.shape(images)[2]
    boxes, flips = draw_crops(uniforms, height, width, views)
    return resized_crop(images, boxes, flips, (image_size, image_size))
