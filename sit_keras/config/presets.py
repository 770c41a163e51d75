"""Named networks, each with the settings of a run that suit it."""

import dataclasses
import typing

from sit_keras.config.checks import check_choice, require
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.recipes import RECIPES
from sit_keras.config.serialization import changed
from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig

_WHOLE = PreprocessingConfig(crop=1.0)
_NATIVE = {"views": ViewConfig(crop_area=(0.2, 1.0)), "preprocessing": _WHOLE}
_NATIVE_NETWORK = NetworkConfig(hidden_dim=192, num_layers=9, num_heads=3, mlp_dim=768)

# The preset whose settings are planned from the images, see `sit_keras.config.plan`.
AUTO = "auto"
# For processor cores: what each of its plans starts from, and the preset `cifar10_cpu`.
_SHALLOW_NETWORK = NetworkConfig(
    64,
    16,
    hidden_dim=192,
    num_layers=4,
    num_heads=6,
    mlp_dim=768,
    drop_path_rate=0.0,
    projection_dim=128,
)
_AUTO: dict[str, typing.Any] = {**_NATIVE, "learning_rate": 2e-3, "rate_scaling": "sqrt"}

# Each preset: the network, and whatever of a run differs from the paper's settings with it.
_PRESETS: dict[str, tuple[NetworkConfig, dict[str, typing.Any]]] = {
    "paper": (NetworkConfig(), {}),
    "small": (NetworkConfig(hidden_dim=384, num_heads=6, mlp_dim=1536), {}),
    "tiny": (NetworkConfig(hidden_dim=192, num_heads=3, mlp_dim=768), {}),
    "native96": (dataclasses.replace(_NATIVE_NETWORK, image_size=96, patch_size=8), _NATIVE),
    "native64": (dataclasses.replace(_NATIVE_NETWORK, image_size=64, patch_size=8), _NATIVE),
    "native32": (dataclasses.replace(_NATIVE_NETWORK, image_size=32, patch_size=4), _NATIVE),
    # For hours on two processor cores; most of the accuracy comes with --recipe=modern.
    "cifar10_cpu": (
        dataclasses.replace(_SHALLOW_NETWORK, image_size=32, patch_size=8),
        {
            **_NATIVE,
            "epochs": 100,
            "batch_size": 128,
            "learning_rate": 4e-3,
            "holdout": 0.02,
            "sheet_every": 20,
            "measure_every": 5,
        },
    ),
    # The digits at any place of a black canvas. Crops are wide, because a digit may be at its edge.
    # Of the three tasks, the contrastive one helps least here: digits of a class look alike.
    "translated_digits": (
        NetworkConfig(
            32,
            8,
            hidden_dim=96,
            num_layers=3,
            num_heads=4,
            mlp_dim=192,
            drop_path_rate=0.0,
            projection_dim=128,
            stem="conv",
            projection_layers=3,
            projection_norm="layer",
        ),
        {
            "views": ViewConfig(crop_area=(0.5, 1.0), flip_probability=0.0),
            "preprocessing": _WHOLE,
            "corruption": CorruptionConfig(grey=False, blur=False, drop=0.05, replace=0.05),
            "weighting": "fixed",
            "task_weights": (1.0, 1.0, 0.1),
            "temperature": 0.2,
            "epochs": 60,
            "batch_size": 32,
            "learning_rate": 0.032,
            "holdout": 0.1,
            "sheet_every": 20,
            "measure_every": 20,
        },
    ),
    # 8x8 pixels, enlarged to 16, with gentler views: a mirrored digit is no digit, and little is
    # left of one after the paper's blur and crops.
    "digits": (
        NetworkConfig(
            16,
            4,
            hidden_dim=64,
            num_layers=3,
            num_heads=4,
            mlp_dim=128,
            drop_path_rate=0.0,
            projection_dim=128,
        ),
        {
            "views": ViewConfig(crop_area=(0.7, 1.0), flip_probability=0.0),
            "preprocessing": _WHOLE,
            "corruption": CorruptionConfig(blur=False, drop=0.15, replace=0.15),
            "epochs": 80,
            "batch_size": 64,
            "learning_rate": 0.032,
            "holdout": 0.1,
            "sheet_every": 20,
            "measure_every": 10,
        },
    ),
}


# Where training with labels differs from the paper's settings.
_DIGITS_FINETUNE = {
    "rand_augment": 1,
    "magnitude": 4.0,
    "erasing": 0.0,
    "mixup": 0.2,
    "cutmix": 0.0,
    "epochs": 40,
    "batch_size": 64,
    "learning_rate": 0.016,
    "drop_path_rate": 0.0,
}
_FINETUNE: dict[str, dict[str, typing.Any]] = {
    "digits": _DIGITS_FINETUNE,
    "translated_digits": _DIGITS_FINETUNE,
}


def presets() -> dict[str, NetworkConfig]:
    """Returns the named networks, largest first."""
    return {name: model for name, (model, _) in _PRESETS.items()}


def usual_preset(dataset: str) -> str:
    """Returns the preset to take for a data set where none is named: its own one, or `paper`."""
    return dataset if dataset in ("digits", "translated_digits") else "paper"


def train_preset(dataset: str) -> str:
    """Returns the preset with which a data set is trained where none is named.

    People's own images are planned for; for the others it is `usual_preset`.
    """
    is_own = dataset.startswith(("folder:", "records:"))
    return AUTO if is_own else usual_preset(dataset)


def auto_config(recipe: str, dataset: str) -> RunConfig:
    """Returns the settings that a plan starts from."""
    check_choice("recipe", recipe, tuple(RECIPES))
    start = RunConfig(preset=AUTO, recipe=recipe, dataset=dataset, model=_SHALLOW_NETWORK, **_AUTO)
    return changed(start, RECIPES[recipe])


def started_from(config: RunConfig) -> RunConfig:
    """Returns the settings of the preset and the recipe that a run names."""
    if config.preset == AUTO:
        return auto_config(config.recipe, config.dataset)
    return run_config(config.preset, recipe=config.recipe, dataset=config.dataset)


def run_config(
    preset: str, model_changes: dict | None = None, recipe: str = "paper", **changes
) -> RunConfig:
    """Returns the settings of a run that starts from a named preset.

    Args:
        preset: str. A name from `presets()`.
        model_changes: dict. Fields of the preset's `NetworkConfig` that differ.
        recipe: str. One of `sit_keras.config.recipes.RECIPES`, which changes the preset's settings.
        **changes: fields of `RunConfig` that differ from both.

    Raises:
        ValueError: for an unknown preset or recipe, or a setting out of range.
    """
    require(
        preset != AUTO,
        f"The preset {AUTO} is planned from the images by the commands train and doctor: name one "
        f"of {', '.join(_PRESETS)} here.",
    )
    check_choice("preset", preset, tuple(_PRESETS))
    check_choice("recipe", recipe, tuple(RECIPES))
    model, settings = _PRESETS[preset]
    config = RunConfig(**{"preset": preset, "recipe": recipe, "model": model, **settings})
    config = changed(config, RECIPES[recipe])
    model = dataclasses.replace(config.model, **(model_changes or {}))
    return dataclasses.replace(config, **{"model": model, **changes})


def finetune_config(
    preset: str | None, views: ViewConfig, frozen: bool = False, **changes
) -> FinetuneConfig:
    """Returns the settings of training with labels that suit a preset.

    Args:
        preset: str or None. A name from `presets()`.
        views: ViewConfig. Of the pre-training.
        frozen: bool. For heads on a frozen encoder.
        **changes: fields of `FinetuneConfig` that differ.

    Raises:
        ValueError: for a setting out of range.
    """
    settings = {"views": views, "frozen": frozen, **({"learning_rate": 1e-3} if frozen else {})}
    return FinetuneConfig(**{**settings, **_FINETUNE.get(preset or "", {}), **changes})
