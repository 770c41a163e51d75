"""Settings as frozen dataclasses that refuse what cannot work. Standard library only."""

import dataclasses
import typing

TASKS = ("reconstruction", "rotation", "contrastive")
NUM_CHANNELS = 3  # every source delivers RGB


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True)
class SiTConfig:
    """The Vision Transformer and its three pretext heads. The defaults are the paper's ViT-B/16.

    Args:
        image_size: int or (height, width), in pixels. Both must be multiples of `patch_size`.
        patch_size: int. Side of a patch in pixels.
        hidden_dim: int. Width D of the tokens.
        num_layers: int. Number of encoder blocks.
        num_heads: int. Attention heads; must divide `hidden_dim`.
        mlp_dim: int. Hidden width of each block's MLP.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it grows linearly from
            0 at the first one.
        layer_norm_epsilon: float.
        projection_dim: int. Width of the contrastive embedding.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    drop_path_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    projection_dim: int = 512

    num_prefix_tokens: typing.ClassVar[int] = 2

    def __post_init__(self):
        if not isinstance(self.image_size, int):
            object.__setattr__(self, "image_size", tuple(self.image_size))
        for name in ("patch_size", "hidden_dim", "num_layers", "num_heads", "mlp_dim"):
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1, received {value}.")
        height, width = self.input_size
        _require(
            height % self.patch_size == 0
            and width % self.patch_size == 0
            and min(height, width) >= self.patch_size,
            f"image_size {height}x{width} is not divisible by patch_size {self.patch_size}: "
            f"choose a multiple, for example image_size={_next_multiple(height, self.patch_size)}.",
        )
        _require(
            self.hidden_dim % self.num_heads == 0,
            f"hidden_dim {self.hidden_dim} is not divisible by num_heads {self.num_heads}.",
        )
        _require(
            0 <= self.drop_path_rate < 1,
            f"drop_path_rate must lie in [0, 1), received {self.drop_path_rate}.",
        )

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the input in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patch grid."""
        height, width = self.input_size
        return height // self.patch_size, width // self.patch_size

    @property
    def square_size(self) -> int:
        """The side in pixels; pre-training rotates by 90 degrees, so it needs square images."""
        height, width = self.input_size
        _require(
            height == width,
            f"Pre-training turns images by 90 degrees, so image_size must be square; "
            f"received {height}x{width}.",
        )
        return height

    @property
    def num_encoder_parameters(self) -> int:
        """Trainable parameters of the encoder alone."""
        d, m = self.hidden_dim, self.mlp_dim
        rows, columns = self.grid
        patches = self.patch_size**2 * NUM_CHANNELS * d + d
        prefix = self.num_prefix_tokens * d + (self.num_prefix_tokens + rows * columns) * d
        block = (3 * d * d + 3 * d) + (d * d + d) + (d * m + m) + (m * d + d) + 4 * d
        return patches + prefix + self.num_layers * block + 2 * d

    @property
    def num_encoder_flops(self) -> int:
        """Floating-point operations of the encoder's matrix products for one image, forward."""
        d, m = self.hidden_dim, self.mlp_dim
        rows, columns = self.grid
        tokens = self.num_prefix_tokens + rows * columns
        patches = rows * columns * self.patch_size**2 * NUM_CHANNELS * d
        block = tokens * (4 * d * d + 2 * d * m) + 2 * tokens**2 * d
        return 2 * (patches + self.num_layers * block)  # a product and a sum each

    @property
    def num_flops(self) -> int:
        """As `num_encoder_flops`, of the encoder and its three heads."""
        rows, columns = self.grid
        pixels = rows * columns * self.patch_size**2 * NUM_CHANNELS
        return self.num_encoder_flops + 2 * self.hidden_dim * (4 + self.projection_dim + pixels)

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the encoder and its three heads."""
        d = self.hidden_dim
        rotation = 4 * d + 4
        projection = self.projection_dim * (d + 1)
        reconstruction = d * self.patch_size**2 * NUM_CHANNELS + NUM_CHANNELS
        return self.num_encoder_parameters + rotation + projection + reconstruction


def _next_multiple(value: int, of: int) -> int:
    return max(1, round(value / of)) * of


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """How a clean view is cut out of an image.

    Args:
        crop_area: (low, high) share of the image's area that a random crop keeps.
        crop_ratio: (low, high) aspect ratio of the crop, drawn log-uniformly.
        flip_probability: float. Chance of a horizontal flip, always before the rotation.
        brightness, contrast, saturation: float. Each factor is uniform in [1 - x, 1 + x].
        eval_crop: float. Share of the short side kept by the centre crop of evaluation.
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    eval_crop: float = 0.875

    def __post_init__(self):
        for name in ("crop_area", "crop_ratio"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (low, high))
            _require(0 < low <= high, f"{name} must be 0 < low <= high, received {(low, high)}.")
        _require(
            self.crop_area[1] <= 1, f"crop_area cannot exceed 1, received {self.crop_area[1]}."
        )
        for name in ("flip_probability", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} must lie in [0, 1], received {value}.")
        _require(0 < self.eval_crop <= 1, f"eval_crop must be in (0, 1], got {self.eval_crop}.")


@dataclasses.dataclass(frozen=True)
class CorruptionConfig:
    """What is spoilt in a view before the network sees it, in this order.

    Args:
        grey: bool. One block loses its colour.
        blur: bool. One block is blurred.
        drop: float. Up to this share of the pixels becomes noise, block by block.
        replace: float. Up to this share is replaced from another image of the batch.
        colour: bool. One block gets its colours distorted (in the deck's figure, not in the
            authors' code).
    """

    grey: bool = True
    blur: bool = True
    drop: float = 0.3
    replace: float = 0.3
    colour: bool = False

    def __post_init__(self):
        for name in ("drop", "replace"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} must lie in [0, 1], received {value}.")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a pre-training run. The defaults are the paper's.

    Args:
        dataset: str. `digits`, `cifar10`, `cifar100`, `stl10`, `tiny_imagenet` or `folder:PATH`.
        preset: str. The named preset that the settings started from.
        model, views, corruption: the network, the views and their corruption.
        initial_encoder: str or None. A run folder or `.keras` file to start from, of the network's
            own sizes but for the image size; None starts from new weights.
        tasks: the pretext tasks, a non-empty subset of `TASKS`.
        weighting: `uncertainty` (learned) or `fixed`.
        task_weights: one fixed weight per task, in the order of `tasks`; None means 1 each.
        temperature: float. Of the contrastive loss.
        negatives: `global` (of all replicas) or `local`.
        epochs, batch_size: int. `batch_size` counts images over all replicas; each gives two views.
        steps_per_epoch: int or None. Caps the steps of an epoch; None visits every image once.
        learning_rate: float. For 512 images a batch; it is scaled by batch_size / 512.
        min_learning_rate, warmup_epochs, weight_decay: the schedule and AdamW's decay.
        clip_norm: float or None. Global norm at which gradients are clipped.
        precision: `float32`, `mixed_bfloat16` or `mixed_float16`.
        holdout: float. Share of the training split kept for validation and nearest neighbours.
        sheet_every: int. Epochs between two sheets of reconstructions.
        strict: bool. Refuse a folder with unreadable images instead of skipping them.
        seed: int.
    """

    dataset: str = "digits"
    preset: str = "paper"
    model: SiTConfig = SiTConfig()
    views: ViewConfig = ViewConfig()
    corruption: CorruptionConfig = CorruptionConfig()
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
    strict: bool = False
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "tasks", check_tasks(self.tasks))
        if self.task_weights is not None:
            object.__setattr__(self, "task_weights", tuple(self.task_weights))
        check_weighting(self.weighting, self.tasks, self.task_weights)
        check_choice("negatives", self.negatives, ("global", "local"))
        check_choice("precision", self.precision, ("float32", "mixed_bfloat16", "mixed_float16"))
        for name in ("epochs", "batch_size", "sheet_every"):
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1, received {value}.")
        check_batch(self.batch_size, self.tasks)
        for name in ("learning_rate", "temperature"):
            value = getattr(self, name)
            _require(value > 0, f"{name} must be positive, received {value}.")
        _require(0 <= self.holdout < 1, f"holdout must lie in [0, 1), received {self.holdout}.")
        _require(
            0 <= self.warmup_epochs < self.epochs,
            f"warmup_epochs ({self.warmup_epochs}) must be fewer than epochs ({self.epochs}).",
        )
        _require(
            self.clip_norm is None or self.clip_norm > 0,
            f"clip_norm must be positive or None, received {self.clip_norm}.",
        )

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up: the base rate scaled by batch_size / 512."""
        return self.learning_rate * self.batch_size / 512


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    _require(value in choices, f"Unknown {name} {value!r}: choose one of {', '.join(choices)}.")


def check_tasks(tasks: typing.Iterable[str]) -> tuple[str, ...]:
    """Returns the tasks as a tuple, in the order given (which `task_weights` follow).

    Raises:
        ValueError: if there is none, one is unknown, or one is named twice.
    """
    tasks = tuple(tasks)
    subset = f"choose a non-empty subset of {', '.join(TASKS)}."
    unknown = [task for task in tasks if task not in TASKS]
    _require(not unknown, f"Unknown tasks {unknown}: {subset}")
    _require(len(tasks) > 0, f"No task given: {subset}")
    _require(len(set(tasks)) == len(tasks), f"A task is named twice in {tasks}: {subset}")
    return tasks


def check_weighting(
    weighting: str, tasks: tuple[str, ...], task_weights: tuple[float, ...] | None
) -> None:
    """Raises ValueError unless the weights fit the weighting and the tasks."""
    check_choice("weighting", weighting, ("uncertainty", "fixed"))
    if task_weights is None:
        return
    _require(
        weighting == "fixed",
        f"task_weights {task_weights} were given, but weighting={weighting!r} learns them: "
        "use weighting='fixed'.",
    )
    _require(
        len(task_weights) == len(tasks),
        f"task_weights has {len(task_weights)} values for {len(tasks)} tasks "
        f"({', '.join(tasks)}): give one for each.",
    )


def check_batch(batch_size: int, tasks: tuple[str, ...]) -> None:
    """Raises ValueError where the contrastive task would have no negatives."""
    _require(
        batch_size > 1 or "contrastive" not in tasks,
        "The contrastive task needs a batch of at least 2 images, received batch_size=1: with one "
        "image there is nothing to tell it apart from. Raise batch_size or leave the task out.",
    )
