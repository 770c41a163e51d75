"""How images become the input of a network. Standard library only."""

import dataclasses

from sit_keras.config.checks import check_choice, require
from sit_keras.config.fields import normalize_fields

# The channel statistics of ImageNet, which the authors use for every data set.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS = ("crop", "pad")


@dataclasses.dataclass(frozen=True)
class PreprocessingConfig:
    """What is done to an image before the network sees it. It is saved with the weights.

    Pre-training, evaluation, fine-tuning and export all read it from the backbone, so they cannot
    disagree. The size in pixels is the backbone's `image_shape`.

    Args:
        crop: float in (0, 1]. Share of the short side that the centre crop keeps (0.875 is
            224 / 256). Pre-training takes random crops instead.
        mean, std: one float a channel. Subtracted from, and divided into, pixels in [0, 1].
        value_range: (low, high). What black and white are in the images that come in. Keras' own
            layers and `image_dataset_from_directory` use (0, 255), and so does uint8. Image files
            are always read as that; `RunConfig.value_range` says how, for more than 8 bits.
        fit: str. How an image of another aspect ratio becomes the input: `crop` takes the centre,
            and `pad` the whole image, with bars of the colour `mean` beside it or above and below.
            With `pad`, `crop` has no effect. The random crops of pre-training stay as they are.
    """

    crop: float = 0.875
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    value_range: tuple[float, float] = (0.0, 255.0)
    fit: str = "crop"

    def __post_init__(self):
        normalize_fields(self)
        check_choice("fit", self.fit, FITS)
        require(0 < self.crop <= 1, f"crop must lie in (0, 1], received {self.crop}.")
        require(
            len(self.mean) == len(self.std) and all(value > 0 for value in self.std),
            f"mean and std must have one value a channel, those of std positive; received "
            f"mean={self.mean}, std={self.std}.",
        )
        require(
            self.value_range[0] < self.value_range[1],
            f"value_range must be (low, high), such as (0, 255) or (0, 1); received "
            f"{self.value_range}.",
        )

    @property
    def is_of_imagenet(self) -> bool:
        """Whether mean and deviation are those of the colours of ImageNet, the defaults."""
        return (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
