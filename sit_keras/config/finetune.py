"""The settings of training with labels, of all weights or of heads alone. Standard library only."""

import dataclasses

from sit_keras.config.checks import check_choice
from sit_keras.config.fields import check_at_least, check_training, normalize_fields
from sit_keras.config.settings import ViewConfig


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides how a classifier is trained. The defaults are the paper's.

    Args:
        frozen: bool. Leave the encoder as it is and train heads only, one for each pair of
            `head_learning_rates` and `head_weight_decays`; the best on held-out images is taken.
        views: ViewConfig. Crops and flips; colours are left to RandAugment.
        rand_augment: int. Rounds of RandAugment, 0 for none.
        magnitude: float in [0, 10]. Strength of RandAugment.
        erasing: float. Chance that a box of an image becomes noise.
        mixup, cutmix: float. Parameters of the Beta distributions of mixing shares; 0 turns one
            off, and where both are on each batch takes one of them.
        label_smoothing: float.
        epochs, batch_size: int.
        learning_rate: float. For 512 images a batch; it is scaled by batch_size / 512.
        min_learning_rate: float. Where the cosine ends. With a peak below it, as a small batch may
            have, the learning rate stays at the peak.
        warmup_epochs: int. Epochs of linear warm-up; see `effective_warmup_epochs` for short runs.
        weight_decay: float. Of AdamW.
        layer_decay: float in (0, 1]. Each block's learning rate as a share of the next one's.
        drop_path_rate: float in [0, 1).
        ema_momentum: float or None. Evaluate a moving average of the weights, not the last ones.
        hidden_dim: int or None. See `ClassifierHead`.
        head_learning_rates: multiples of the learning rate that frozen training tries.
        head_weight_decays: weight decays that frozen training tries.
        holdout: float. Share of the labelled images that frozen training chooses by.
        precision: `float32`, `mixed_bfloat16` or `mixed_float16`.
        seed: int in [0, 2**32 - 2].

    Reference:
        The fine-tuning and linear commands of the paper's code: RandAugment `m9-mstd0.5-inc1`,
        erasing 0.25, mixup 0.8, CutMix 1.0, label smoothing 0.1.
    """

    frozen: bool = False
    views: ViewConfig = ViewConfig()
    rand_augment: int = 2
    magnitude: float = 9.0
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    label_smoothing: float = 0.1
    epochs: int = 501
    batch_size: int = 480
    learning_rate: float = 5e-4
    min_learning_rate: float = 5e-6
    warmup_epochs: int = 5
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    drop_path_rate: float = 0.1
    ema_momentum: float | None = None
    hidden_dim: int | None = None
    head_learning_rates: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    head_weight_decays: tuple[float, ...] = (0.0, 5e-4)
    holdout: float = 0.1
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        normalize_fields(self)
        check_choice("precision", self.precision, ("float32", "mixed_bfloat16", "mixed_float16"))
        bounds = {
            "rand_augment": (0, 10),
            "magnitude": (0, 10),
            "erasing": (0, 1),
            "label_smoothing": (0, 0.99),
            "layer_decay": (0.01, 1),
            "drop_path_rate": (0, 0.99),
            "holdout": (0, 0.9),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], received {value}.")
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if value != 0 and not 0.1 <= value <= 100:  # a smaller one underflows
                raise ValueError(f"{name} must be 0 or lie in [0.1, 100], received {value}.")
        check_training(self)
        check_at_least(self, 1, "hidden_dim")
        rates, decays = self.head_learning_rates, self.head_weight_decays
        if not rates or min(rates) <= 0:
            raise ValueError(
                f"head_learning_rates must be one or more positive factors, received {rates}."
            )
        if not decays or min(decays) < 0:
            raise ValueError(
                f"head_weight_decays must be one or more numbers from 0, received {decays}."
            )
        if self.ema_momentum is not None and not 0 < self.ema_momentum < 1:
            raise ValueError(
                f"ema_momentum must lie in (0, 1) or be None, received {self.ema_momentum}."
            )

    @property
    def effective_warmup_epochs(self) -> int:
        """`warmup_epochs`, or fewer where no epoch of the run would be left after them."""
        return min(self.warmup_epochs, self.epochs - 1)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up: the base rate scaled by batch_size / 512."""
        return self.learning_rate * self.batch_size / 512
