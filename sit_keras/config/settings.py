"""Settings as frozen dataclasses that refuse what cannot work. Standard library only."""

import dataclasses

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


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """How a clean view is cut out of an image.

    Args:
        crop_area: (low, high) share of the image's area that a random crop keeps.
        crop_ratio: (low, high) aspect ratio of the crop, drawn log-uniformly.
        flip_probability: float. Chance of a horizontal flip, always before the rotation.
        brightness, contrast, saturation: float. Each factor is uniform in [1 - x, 1 + x].
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4

    def __post_init__(self):
        normalize_fields(self)
        for name in ("crop_area", "crop_ratio"):
            low, high = getattr(self, name)
            require(0 < low <= high, f"{name} must be 0 < low <= high, received {(low, high)}.")
        require(self.crop_area[1] <= 1, f"crop_area cannot exceed 1, received {self.crop_area[1]}.")
        for name in ("flip_probability", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must lie in [0, 1], received {value}.")


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
    """

    grey: bool = True
    blur: bool = True
    drop: float = 0.3
    replace: float = 0.3
    colour: bool = False

    def __post_init__(self):
        normalize_fields(self)
        for name in ("drop", "replace"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must lie in [0, 1], received {value}.")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a pre-training run. The defaults are the paper's.

    Args:
        dataset: str. `digits`, `cifar10`, `cifar100`, `stl10`, `tiny_imagenet`, `folder:PATH` or
            `records:PATH`.
        preset: str. The named preset that the settings started from.
        model, views, corruption: the network, the views and their corruption.
        preprocessing: PreprocessingConfig. How images are normalised, here and wherever the encoder
            is used afterwards, and the centre crop of evaluation.
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
        learning_rate: float. For 512 images a batch; it is scaled by batch_size / 512.
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

    def __post_init__(self):
        normalize_fields(self)
        for name in ("dataset", "preset", "initial_encoder"):
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

    @property
    def effective_warmup_epochs(self) -> int:
        """`warmup_epochs`, or fewer where no epoch of the run would be left after them."""
        return min(self.warmup_epochs, self.epochs - 1)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up: the base rate scaled by batch_size / 512."""
        return self.learning_rate * self.batch_size / 512
