"""The two views of each image that the pretext tasks see, and their corruption.

Shapes: B images, V = 2 views, M = B * V views in a row, S side, H W C image.
"""

import dataclasses
import itertools
import typing

from keras import ops

from sit_keras.augment import operations, sampling
from sit_keras.augment.crops import CROP_NUMBERS, draw_crops, random_crops
from sit_keras.augment.random import normal, random_bits, uniform
from sit_keras.config.checks import require
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.settings import CorruptionConfig, ViewConfig

NUM_VIEWS = 2

# Independent streams of random numbers within a step. Each of the last four is drawn only where its
# option is on, one number for each view.
_CROP, _APPEARANCE, _CORRUPTION, _NOISE = range(4)
_JITTERED, _HUE, _GREYSCALE, _SOLARIZE = range(4, 8)

# How many uniform numbers the appearance of a view and its corruption take.
APPEARANCE_NUMBERS = 1 + sampling.JITTER_NUMBERS
_CORRUPTION_PARTS = {
    "grey": sampling.BLOCK_NUMBERS,
    "blur": sampling.BLOCK_NUMBERS,
    "blur_kernel": sampling.BLUR_NUMBERS,
    "drop": sampling.BLOCKS_NUMBERS,
    "replace": sampling.BLOCKS_NUMBERS,
    "donor": 1,
    "colour": sampling.BLOCK_NUMBERS,
    "colour_factors": sampling.JITTER_NUMBERS,
}
CORRUPTION_NUMBERS = sum(_CORRUPTION_PARTS.values())

# The paper's figure shows local colour distortion without a strength; this is SimCLR's.
_DISTORTION = ViewConfig(brightness=0.8, contrast=0.8, saturation=0.8)


@dataclasses.dataclass(frozen=True)
class TwoViews:
    """Makes two corrupted and clean views of each image of a batch, and their rotation labels.

    A view is a pure function of the seed, the step, the image's position in the global batch and
    the image. So any view can be made again, a resumed training sees the same ones, and a device
    or a worker makes the views of its own images alone. The random numbers are equal to the bit
    wherever they are drawn; pixels agree within 1e-5 across compilers.

    The flip comes before the rotation and the rotation last: the other way round a flipped quarter
    turn cannot be distinguished from the opposite one, as the paper notes.

    Args:
        image_size: int. Side S of the views in pixels.
        views: ViewConfig.
        corruption: CorruptionConfig.
        preprocessing: PreprocessingConfig. The range of the images that come in, and how the views
            are normalised.
        seed: int, or a tensor of `seed_words`.

    Raises:
        ValueError: if the blocks of the corruption cannot be aligned with an image of this size.
    """

    image_size: int
    views: ViewConfig = ViewConfig()
    corruption: CorruptionConfig = CorruptionConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    seed: int = 0

    def __post_init__(self):
        align = self.corruption.align
        require(
            align is None or self.image_size % align == 0,
            f"corruption.align={align} must divide the image size, received {self.image_size}: "
            "take the patch size.",
        )

    def __call__(
        self,
        images: typing.Any,
        step: typing.Any,
        first: typing.Any = 0,
        each: typing.Callable = lambda stage: stage,
    ) -> dict[str, typing.Any]:
        """Returns the views of a batch.

        Args:
            images: (B, H, W, C) of one size, in the value range; or pairs of crops
                (B, 2, S, S, C) uint8, cut by the boxes of `draw_crops`.
            step: int or scalar integer tensor.
            first: int or scalar integer tensor. Position of the first image in the global batch.
            each: a function that is given each stage (`crop`, `color`, `rotate` and `corrupt`) and
                returns the one to call, for example compiled. XLA gets them one by one because,
                given all of them, it computes a cheap stage again for every use of its result.

        Returns:
            A dict: `corrupted` and `clean` (B, 2, S, S, C) float32 normalised, `rotation` (B, 2)
            int32, quarter turns clockwise. With `turned_every`, `rotation` is 0, and `turned`
            (T, 2, S, S, C) and `turned_rotation` (T, 2) are clean views of the images 0,
            turned_every, 2 * turned_every, ... and how far these were turned. The images chosen
            are those of the global batch if `first` is a multiple of it.
        """
        positions = first + ops.arange(ops.shape(images)[0], dtype="int32")
        if len(images.shape) == 5:
            crops = operations.unit_pixels(images)
        else:
            crops = each(self.crop)(images, step, positions)
        shape = ops.shape(crops)
        colored, rotation = each(self.color)(crops, step, positions)
        turned, every = {}, self.views.turned_every
        if every is None:
            clean = each(operations.rotate)(colored, rotation)
        else:
            clean, some = colored, ops.reshape(colored, shape)[::every]
            angles = ops.reshape(rotation, (shape[0], NUM_VIEWS))[::every]
            pixels = each(operations.rotate)(
                ops.reshape(some, (-1, *shape[2:])), ops.reshape(angles, (-1,))
            )
            turned = {"turned": ops.reshape(pixels, ops.shape(some)), "turned_rotation": angles}
            rotation = ops.zeros_like(rotation)
        corrupted = each(self.corrupt)(clean, step, positions)
        return {
            "corrupted": ops.reshape(corrupted, shape),
            "clean": ops.reshape(clean, shape),
            "rotation": ops.reshape(rotation, (shape[0], NUM_VIEWS)),
            **turned,
        }

    def crop(self, images: typing.Any, step: typing.Any, positions: typing.Any) -> typing.Any:
        """Cuts random boxes out of images, mirrors some, and resizes them.

        Args:
            images: (B, H, W, C), in the value range.
            step: as for `__call__`.
            positions: (B,) int32, in the global batch.

        Returns:
            (B, 2, S, S, C) float32 in [0, 1].
        """
        uniforms = self._crop_uniforms(step, positions)
        pixels = operations.unit_pixels(images, self.preprocessing.value_range)
        return random_crops(pixels, uniforms, self.views, self.image_size)

    def draw_crops(
        self, height: typing.Any, width: typing.Any, step: typing.Any, position: typing.Any
    ) -> tuple[typing.Any, typing.Any]:
        """Draws the boxes that `crop` cuts out of an image at this position.

        For images of mixed sizes, which are cropped one by one before they can be a batch.

        Args:
            height, width: of the image in pixels, scalar tensors or numbers.
            step, position: int or scalar integer tensors.

        Returns:
            boxes (2, 4) float32 in whole pixels, and flips (2,) bool.
        """
        uniforms = self._crop_uniforms(step, ops.reshape(ops.cast(position, "int32"), (1,)))[0]
        return draw_crops(uniforms, height, width, self.views)

    def color(
        self, crops: typing.Any, step: typing.Any, positions: typing.Any
    ) -> tuple[typing.Any, typing.Any]:
        """Changes the colours of crops, normalises them, and draws how far they will be turned.

        Args:
            crops: (B, 2, S, S, C) float32 in [0, 1].
            step, positions: as for `crop`.

        Returns:
            The views (M, S, S, C) float32, normalised, and their quarter turns (M,) int32.
        """
        shape = ops.shape(crops)
        x = ops.reshape(crops, (shape[0] * NUM_VIEWS, *shape[2:]))  # (M, S, S, C)
        uniforms = self._uniforms(step, _APPEARANCE, positions, APPEARANCE_NUMBERS)  # (M, n)
        x = self._recolor(x, uniforms[:, 1:], step, positions)
        if self.views.solarize_probability > 0:
            chosen = sampling.solarized(self._number(step, _SOLARIZE, positions), self.views)
            x = _where(chosen, operations.solarize(x), x)
        x = operations.normalize(x, self.preprocessing.mean, self.preprocessing.std)
        return x, sampling.quarter_turns(uniforms[:, 0])

    def corrupt(self, clean: typing.Any, step: typing.Any, positions: typing.Any) -> typing.Any:
        """Corrupts views in the paper's order: grey, blur, (colour,) drop, replace.

        Args:
            clean: (M, S, S, C) float32, normalised; the views of an image side by side.
            step, positions: as for `crop`.

        Returns:
            (M, S, S, C) float32, normalised.
        """
        uniforms = self._uniforms(step, _CORRUPTION, positions, CORRUPTION_NUMBERS)  # (M, n)
        ends = list(itertools.accumulate(_CORRUPTION_PARTS.values()))
        parts = zip(_CORRUPTION_PARTS, [0, *ends], ends, strict=False)
        drawn = {name: uniforms[:, start:end] for name, start, end in parts}
        config, size, x = self.corruption, self.image_size, clean
        if config.grey:
            x = operations.grey_block(x, sampling.any_block(drawn["grey"], size))
        if config.blur:
            block = sampling.any_block(drawn["blur"], size)
            x = operations.blur_block(x, block, *sampling.blur(drawn["blur_kernel"]))
        if config.colour:
            block = sampling.any_block(drawn["colour"], size)
            factors, order = sampling.jitter(drawn["colour_factors"], _DISTORTION)
            x = operations.distort_block(
                x, block, factors, order, self.preprocessing.mean, self.preprocessing.std
            )
        if config.drop > 0:
            blocks, active = sampling.small_blocks(drawn["drop"], size, config.drop, config.align)
            x = operations.fill_blocks(x, blocks, active, self._noise(x, step, positions))
        if config.replace > 0:
            donors = sampling.donors(ops.reshape(drawn["donor"], (-1, NUM_VIEWS)), NUM_VIEWS)
            part = drawn["replace"]
            blocks, active = sampling.small_blocks(part, size, config.replace, config.align)
            x = operations.fill_blocks(x, blocks, active, ops.take(x, donors, axis=0))
        return x

    def _recolor(self, x, uniforms, step, positions):
        """Jitters views (M, S, S, C) in [0, 1], the hue last, and greys some.

        Hue and grey are left out, as saturation is, where there are not three channels.
        """
        views, has_colours = self.views, x.shape[-1] == len(operations.LUMA)
        jittered = operations.color_jitter(x, *sampling.jitter(uniforms, views))
        if views.hue > 0 and has_colours:
            turns = sampling.hue_turns(self._number(step, _HUE, positions), views)
            jittered = operations.turn_hue(jittered, turns)
        if views.jitter_probability < 1:
            chosen = self._number(step, _JITTERED, positions) < views.jitter_probability
            jittered = _where(chosen, jittered, x)
        if views.greyscale_probability > 0 and has_colours:
            chosen = self._number(step, _GREYSCALE, positions) < views.greyscale_probability
            jittered = _where(chosen, operations.greyscale(jittered), jittered)
        return jittered

    def _crop_uniforms(self, step, positions):
        uniforms = self._uniforms(step, _CROP, positions, CROP_NUMBERS)  # (M, n)
        return ops.reshape(uniforms, (-1, NUM_VIEWS, CROP_NUMBERS))

    def _uniforms(self, step, stream, positions, count):
        """Returns `count` numbers in [0, 1) for each view, (M, count)."""
        bits = random_bits(self.seed, step, stream, positions, NUM_VIEWS * count)
        return ops.reshape(uniform(bits), (-1, count))

    def _number(self, step, stream, positions):
        """Returns one number in [0, 1) for each view, (M,)."""
        return self._uniforms(step, stream, positions, 1)[:, 0]

    def _noise(self, views, step, positions):
        """Returns normal numbers of the shape (M, S, S, C) of the views."""
        count = self.image_size**2 * views.shape[-1]  # of one view; a word gives two numbers
        bits = random_bits(self.seed, step, _NOISE, positions, count)
        return ops.reshape(normal(bits), (-1, self.image_size, self.image_size, views.shape[-1]))


def _where(chosen, images, others):
    """Takes the images (M, S, S, C) that are chosen (M,), and others in their places."""
    return ops.where(chosen[:, None, None, None], images, others)
