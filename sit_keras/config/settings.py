"""Settings as frozen dataclasses that refuse what cannot work. Standard library only."""

import dataclasses
import math

from sit_keras.config.checks import (
    TASKS,
    check_batch,
    check_choice,
    check_tasks,
    check_value_range,
    check_weighting,
    require,
)
from sit_keras.config.fields import (
    check_at_least,
    check_positive,
    check_training,
    normalize_fields,
)
from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import PreprocessingConfig

# Settings that only learned weights have, with the values at which they change nothing.
OF_LEARNED_WEIGHTS = {"min_task_weight": 0.0, "subtract_loss_floor": False}


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """How a clean view is cut out of an image, and its colours are changed.

    Args:
        crop_area: (low, high) share of the image's area that a random crop keeps.
        crop_ratio: (low, high) aspect ratio of the crop, drawn log-uniformly.
        flip_probability: float. Chance of a horizontal flip, always before the rotation.
        brightness, contrast, saturation: float. Each factor is uniform in [1 - x, 1 + x].
        jitter_probability: float. Chance that the colours of a view are jittered at all.
        hue: float in [0, 0.5]. The last part of the jitter turns the hue by a share of the colour
            circle that is uniform in [-hue, hue].
        greyscale_probability: float. Chance that a view loses its colours. Like `saturation` and
            `hue`, it is for images of three channels, and left out for others.
        solarize_probability: float. Chance that the bright half of the values of an image's second
            view is inverted. The first view never is.
        turned_every: int or None. The rotation task learns from extra samples, the turned clean
            views of every so many images (4 of a batch of 16 with 4), and all other samples are
            upright; None turns all views, as the paper does.

    Reference:
        Chen et al. 2020, SimCLR: hue 0.1 (CIFAR) or 0.2, jitter 0.8, greyscale 0.2. Grill et al.
        2020, BYOL: solarize 0.2 in one of the two views.
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    jitter_probability: float = 1.0
    hue: float = 0.0
    greyscale_probability: float = 0.0
    solarize_probability: float = 0.0
    turned_every: int | None = None

    def __post_init__(self):
        normalize_fields(self)
        for name in ("crop_area", "crop_ratio"):
            low, high = getattr(self, name)
            require(0 < low <= high, f"{name} must be 0 < low <= high, received {(low, high)}.")
        require(self.crop_area[1] <= 1, f"crop_area cannot exceed 1, received {self.crop_area[1]}.")
        for name in (
            "flip_probability", "brightness", "contrast", "saturation", "jitter_probability",
            "greyscale_probability", "solarize_probability",
        ):  # fmt: skip
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must lie in [0, 1], received {value}.")
        require(0 <= self.hue <= 0.5, f"hue must lie in [0, 0.5], received {self.hue}.")
        check_at_least(self, 1, "turned_every")


@dataclasses.dataclass(frozen=True)
class CorruptionConfig:
    """What is corrupted in a view before the network sees it, in this order.

    Args:
        grey: bool. One block loses its colour.
        blur: bool. One block is blurred.
        drop: float. Up to this share of the pixels becomes noise, block by block.
        replace: float. Up to this share is replaced from another image of the batch.
        colour: bool. One block gets its colours distorted (in the paper's figure, not in the
            authors' code).
        align: int or None. The corners and sides of the blocks of `drop` and `replace` are whole
            multiples of this many pixels, such as the patch size, as in the authors' later code.
    """

    grey: bool = True
    blur: bool = True
    drop: float = 0.3
    replace: float = 0.3
    colour: bool = False
    align: int | None = None

    def __post_init__(self):
        normalize_fields(self)
        for name in ("drop", "replace"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must lie in [0, 1], received {value}.")
        check_at_least(self, 1, "align")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a pre-training run. The defaults are the paper's.

    Args:
        dataset: str. `digits`, `translated_digits`, `cifar10`, `cifar100`, `stl10`,
            `tiny_imagenet`, `folder:PATH`, `list:FILE`, `records:PATH` or `tfds:NAME`.
        preset: str. The named preset that the settings started from.
        model, views, corruption: the network, the views and their corruption.
        preprocessing: PreprocessingConfig. How images are normalised, here and wherever the encoder
            is used afterwards, and the centre crop of evaluation. The mean and the deviation of its
            defaults are those of three channels; where `model.channels` is another number, they
            are measured when the run begins.
        initial_encoder: str or None. What to start from, as for `SiTBackbone.from_preset`: the name
            of an encoder that comes with the package, a run folder or a `.keras` file, of the
            network's own sizes but for the image size; None starts from new weights.
        tasks: the pretext tasks, a non-empty subset of `TASKS`.
        weighting: `uncertainty` (learned) or `fixed`.
        task_weights: one fixed weight per task, in the order of `tasks`; None means 1 each.
        temperature: float. Of the contrastive loss.
        negatives: `global` (of all replicas) or `local`.
        epochs, batch_size: int. `batch_size` counts images over all replicas; each gives two views.
        steps_per_epoch: int or None. Caps the steps of an epoch; None visits every image once.
        learning_rate: float. For 512 images a batch; see `rate_scaling`.
        min_learning_rate: float. Where the cosine ends. With a peak below it, as a small batch may
            have, the learning rate stays at the peak.
        warmup_epochs: int. Epochs of linear warm-up; see `effective_warmup_epochs` for short runs.
        weight_decay: float. Of AdamW.
        clip_norm: float or None. Global norm at which gradients are clipped.
        precision: `float32`, `mixed_bfloat16` or `mixed_float16`.
        holdout: float. Share of the training split kept for validation and nearest neighbours.
        sheet_every: int. Epochs between two sheets of reconstructions.
        measure_every: int. Epochs between two measurements of nearest neighbours and of the tasks'
            gradients, which take longer than short epochs can spare.
        strict: bool. Refuse a folder with unreadable images instead of skipping them.
        value_range: (low, high) or None. Values of files of more than 8 bits that become black and
            white, where the files do not say so. (`PreprocessingConfig.value_range` is that of the
            arrays that a model is given, and files are read as 0 to 255.)
        seed: int in [0, 2**32 - 2].
        recipe: str. The named recipe that changed the preset's settings.
        min_task_weight: float. The smallest learned weight of a task.
        subtract_loss_floor: bool. Learn the weights by how far the contrastive loss is above the
            smallest value that it can have.
        weight_decay_end: float or None. Where the weight decay ends, along a cosine over the run;
            None leaves it as it is.
        rate_scaling: `linear` scales the learning rate by batch_size / 512, `sqrt` by its root.
    """

    dataset: str = "digits"
    preset: str = "paper"
    model: NetworkConfig = NetworkConfig()
    views: ViewConfig = ViewConfig()
    corruption: CorruptionConfig = CorruptionConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    initial_encoder: str | None = None
    tasks: tuple[str, ...] = TASKS
    weighting: str = "uncertainty"
    task_weights: tuple[float, ...] | None = None
    temperature: float = 0.5
    negatives: str = "global"
    epochs: int = 501
    batch_size: int = 288
    steps_per_epoch: int | None = None
    learning_rate: float = 1e-3
    min_learning_rate: float = 5e-6
    warmup_epochs: int = 5
    weight_decay: float = 0.05
    clip_norm: float | None = None
    precision: str = "float32"
    holdout: float = 0.05
    sheet_every: int = 10
    measure_every: int = 1
    strict: bool = False
    value_range: tuple[float, float] | None = None
    seed: int = 0
    recipe: str = "paper"
    min_task_weight: float = 0.0
    subtract_loss_floor: bool = False
    weight_decay_end: float | None = None
    rate_scaling: str = "linear"

    def __post_init__(self):
        normalize_fields(self)
        given = len(self.preprocessing.mean)
        require(
            given == self.model.channels or self.measures_channels,
            f"preprocessing.mean and std have values for {given} channels, and model.channels is "
            f"{self.model.channels}: give one of each for every channel, or none to have them "
            "measured.",
        )
        for name in ("dataset", "preset", "initial_encoder", "recipe"):
            require(getattr(self, name) != "", f"{name} must not be empty.")
        check_tasks(self.tasks)
        check_weighting(self.weighting, self.tasks, self.task_weights)
        check_choice("negatives", self.negatives, ("global", "local"))
        check_choice("precision", self.precision, ("float32", "mixed_bfloat16", "mixed_float16"))
        check_training(self)
        check_batch(self.batch_size, self.tasks)
        check_at_least(self, 1, "steps_per_epoch", "sheet_every", "measure_every")
        check_positive(self, "temperature", "clip_norm")
        check_value_range(self.value_range)
        require(0 <= self.holdout < 1, f"holdout must lie in [0, 1), received {self.holdout}.")
        check_at_least(self, 0, "min_task_weight", "weight_decay_end")
        check_choice("rate_scaling", self.rate_scaling, ("linear", "sqrt"))
        for name, without_effect in OF_LEARNED_WEIGHTS.items():
            value = getattr(self, name)
            require(
                self.weighting == "uncertainty" or value == without_effect,
                f"{name}={value} is for weights that are learned, and weighting='fixed' learns "
                f"none: leave it at {without_effect}, or use weighting='uncertainty'.",
            )
        require(
            self.weight_decay_end is None or self.weight_decay > 0,
            f"weight_decay_end={self.weight_decay_end} needs a weight_decay above 0 to start from.",
        )
        every = self.views.turned_every or 1
        require(
            self.batch_size % every == 0,
            f"A batch_size of {self.batch_size} is no multiple of views.turned_every={every}: use "
            f"{-(-self.batch_size // every) * every} images, or turn others.",
        )

    @property
    def measures_channels(self) -> bool:
        """Whether the images have other channels than red, green and blue, and no mean is given."""
        return self.model.channels != NetworkConfig.channels and self.preprocessing.is_of_imagenet

    @property
    def effective_warmup_epochs(self) -> int:
        """`warmup_epochs`, or fewer where no epoch of the run would be left after them."""
        return min(self.warmup_epochs, self.epochs - 1)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up: the base rate, scaled as `rate_scaling` says."""
        if self.rate_scaling == "sqrt":
            return self.learning_rate * math.sqrt(self.batch_size / 512)
        return self.learning_rate * self.batch_size / 512
