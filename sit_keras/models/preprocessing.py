"""The layer that makes images of any size the input of a network.

Shapes: B batch, H W C image, h w the network's input.
"""

import dataclasses
import typing

import keras
from keras import ops

from sit_keras.augment.operations import normalize, unit_pixels
from sit_keras.augment.resizing import letterboxed, resized_crop
from sit_keras.config.preprocessing import PreprocessingConfig


@keras.saving.register_keras_serializable(package="sit_keras")
class ImagePreprocessing(keras.layers.Layer):
    """Cuts the centre out of images, or pads them, resizes, and normalises the channels.

    The centre crop has the aspect ratio of the network's input, and so have padded images; the
    resizing is antialiased bicubic as in Pillow. Greyscale images are repeated where the network
    takes colours.

    Args:
        image_shape: (height, width, channels) of the network's input.
        crop, mean, std, value_range, fit: as for `PreprocessingConfig`.

    Call arguments:
        images: (B, H, W, C) of any type, in the value range.

    Returns:
        (B, h, w, C) float32.

    Example:
        ```
        layer = ImagePreprocessing.of(backbone)
        features = backbone(layer(images))
        ```
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        crop: float = PreprocessingConfig.crop,
        mean: tuple[float, ...] = PreprocessingConfig.mean,
        std: tuple[float, ...] = PreprocessingConfig.std,
        value_range: tuple[float, float] = PreprocessingConfig.value_range,
        fit: str = PreprocessingConfig.fit,
        **kwargs,
    ):
        # Pixels lose too much in half precision.
        super().__init__(**{"autocast": False, **kwargs, "dtype": "float32"})
        self.image_shape = tuple(image_shape)
        self.config = PreprocessingConfig(crop, mean, std, value_range, fit)

    @classmethod
    def of(cls, backbone: keras.Model, **kwargs) -> "ImagePreprocessing":
        """Returns the layer that a backbone was trained with."""
        settings = dataclasses.asdict(backbone.preprocessing)
        return cls(backbone.image_shape, **settings, **kwargs)

    def build(self, input_shape):
        """Has no weights; Keras keeps the shape for `summary`."""

    def call(self, images):
        return self.normalize(self.centre(self.pixels(images)))

    def pixels(self, images: typing.Any) -> typing.Any:
        """Returns images (B, H, W, C) as float32 in [0, 1], with the channels of the network."""
        return unit_pixels(match_channels(images, self.image_shape[-1]), self.config.value_range)

    def centre(self, images: typing.Any) -> typing.Any:
        """Returns images (B, H, W, C) in [0, 1] as (B, h, w, C), cropped or padded by `fit`."""
        batch, height, width = ops.shape(images)[:3]
        size = self.image_shape[0], self.image_shape[1]
        is_padded = self.config.fit == "pad"
        if tuple(images.shape[1:3]) == size and (is_padded or self.config.crop == 1.0):
            return ops.clip(images, 0.0, 1.0)
        if is_padded:
            return letterboxed(images, self.config.mean, size)
        # The largest box of the input's aspect ratio, and the share of it that is kept.
        whole = ops.cast(height, "float32"), ops.cast(width, "float32")
        rows = ops.minimum(whole[0], whole[1] * (size[0] / size[1])) * self.config.crop
        columns = ops.minimum(whole[1], whole[0] * (size[1] / size[0])) * self.config.crop
        rows, columns = (ops.cast(ops.maximum(ops.round(x), 1.0), "int32") for x in (rows, columns))
        top, left = (height - rows) // 2, (width - columns) // 2
        # Cut out first, so that the products of the resizing are no larger than they need be.
        square = images[:, top : top + rows, left : left + columns]
        box = ops.cast(ops.stack([0, 0, rows, columns]), "float32")
        boxes = ops.tile(box[None, None], (batch, 1, 1))  # (B, 1, 4)
        return resized_crop(square, boxes, ops.zeros((batch, 1), "bool"), size)[:, 0]

    def normalize(self, images: typing.Any) -> typing.Any:
        """Returns images in [0, 1] as the network takes them."""
        return normalize(images, self.config.mean, self.config.std)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.image_shape)

    def get_config(self) -> dict[str, typing.Any]:
        return {
            **super().get_config(),
            "image_shape": self.image_shape,
            **dataclasses.asdict(self.config),
        }


def match_channels(images, num_channels: int):
    """Repeats the channel of greyscale images (B, H, W, 1) where there should be more.

    Raises:
        ValueError: if the images have another number of channels, or are no images.
    """
    if len(images.shape) != 4:
        raise ValueError(
            f"Expected a batch of images (B, H, W, {num_channels}), received the shape "
            f"{tuple(images.shape)}: add the axis that is missing, such as images[..., None] for "
            "greyscale images without channels."
        )
    channels = images.shape[-1]
    if channels == num_channels:
        return images
    if channels is None:  # not known before the images come: one channel or all of them fit
        return ops.cast(images, "float32") * ops.ones((num_channels,))
    if channels == 1:
        return ops.repeat(images, num_channels, axis=-1)
    raise ValueError(
        f"Expected images of {num_channels} channels, or greyscale ones of 1 channel; received "
        f"{channels} channels, shape {tuple(images.shape)}. Convert the images, or build the "
        f"backbone with image_shape=(height, width, {channels})."
    )
