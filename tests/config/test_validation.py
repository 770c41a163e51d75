"""Every field of every config refuses what cannot work, in one sentence that names it."""

import dataclasses
import importlib
import inspect
import json
import math
import pkgutil
import types
import typing

import numpy as np
import pytest

import sit_keras.config
from sit_keras.config.execution import Execution
from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.recipe_rows import Row
from sit_keras.config.serialization import to_dict
from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig

NAN, INF = math.nan, math.inf
FIXED = {"weighting": "fixed"}

# Values out of range: the config, the field, a value, and other fields that it needs to get there.
OUT_OF_RANGE = [
    (NetworkConfig, "image_size", 0, {}),
    (NetworkConfig, "image_size", -16, {}),
    (NetworkConfig, "image_size", 225, {}),
    (NetworkConfig, "patch_size", 0, {}),
    (NetworkConfig, "patch_size", -16, {}),
    (NetworkConfig, "hidden_dim", 0, {}),
    (NetworkConfig, "hidden_dim", 769, {}),
    (NetworkConfig, "num_layers", 0, {}),
    (NetworkConfig, "num_layers", -1, {}),
    (NetworkConfig, "num_heads", 0, {}),
    (NetworkConfig, "num_heads", 5, {}),
    (NetworkConfig, "mlp_dim", 0, {}),
    (NetworkConfig, "mlp_dim", -1, {}),
    (NetworkConfig, "drop_path_rate", -0.1, {}),
    (NetworkConfig, "drop_path_rate", 1.0, {}),
    (NetworkConfig, "layer_norm_epsilon", 0.0, {}),
    (NetworkConfig, "layer_norm_epsilon", -1e-6, {}),
    (NetworkConfig, "projection_dim", 0, {}),
    (NetworkConfig, "projection_dim", -1, {}),
    (NetworkConfig, "channels", 0, {}),
    (NetworkConfig, "channels", -3, {}),
    (NetworkConfig, "stem", "convolution", {}),
    (NetworkConfig, "stem", "conv", {"image_size": 36, "patch_size": 12}),
    (NetworkConfig, "stem", "conv", {"patch_size": 1}),
    (NetworkConfig, "projection_layers", 0, {}),
    (NetworkConfig, "projection_layers", 4, {}),
    (NetworkConfig, "projection_norm", "batch", {"projection_layers": 2}),
    (NetworkConfig, "projection_norm", "layer", {"projection_layers": 1}),
    (ViewConfig, "crop_area", (0.0, 0.5), {}),
    (ViewConfig, "crop_area", (0.5, 0.1), {}),
    (ViewConfig, "crop_area", (0.5, 1.1), {}),
    (ViewConfig, "crop_area", (NAN, 1.0), {}),
    (ViewConfig, "crop_ratio", (0.0, 1.0), {}),
    (ViewConfig, "crop_ratio", (2.0, 1.0), {}),
    (ViewConfig, "crop_ratio", (1.0, NAN), {}),
    (ViewConfig, "flip_probability", 1.1, {}),
    (ViewConfig, "flip_probability", NAN, {}),
    (ViewConfig, "brightness", 2.0, {}),
    (ViewConfig, "brightness", NAN, {}),
    (ViewConfig, "contrast", -0.1, {}),
    (ViewConfig, "saturation", 1.1, {}),
    (ViewConfig, "jitter_probability", 1.1, {}),
    (ViewConfig, "jitter_probability", NAN, {}),
    (ViewConfig, "hue", 0.6, {}),
    (ViewConfig, "hue", -0.1, {}),
    (ViewConfig, "greyscale_probability", -0.1, {}),
    (ViewConfig, "solarize_probability", 1.1, {}),
    (CorruptionConfig, "align", 0, {}),
    (CorruptionConfig, "align", -4, {}),
    (ViewConfig, "turned_every", 0, {}),
    (CorruptionConfig, "drop", -0.1, {}),
    (CorruptionConfig, "drop", NAN, {}),
    (CorruptionConfig, "replace", 1.1, {}),
    (CorruptionConfig, "replace", NAN, {}),
    (PreprocessingConfig, "crop", 0.0, {}),
    (PreprocessingConfig, "crop", 1.1, {}),
    (PreprocessingConfig, "crop", NAN, {}),
    (PreprocessingConfig, "fit", "stretch", {}),
    (PreprocessingConfig, "mean", (0.5,), {}),
    (PreprocessingConfig, "std", (0.5, 0.5, 0.0), {}),
    (PreprocessingConfig, "std", (0.5, 0.5, NAN), {}),
    (PreprocessingConfig, "value_range", (1.0, 0.0), {}),
    (PreprocessingConfig, "value_range", (0.0, NAN), {}),
    (RunConfig, "dataset", "", {}),
    (RunConfig, "preset", "", {}),
    (RunConfig, "initial_encoder", "", {}),
    (RunConfig, "tasks", (), {}),
    (RunConfig, "tasks", ("rotation", "rotation"), {}),
    (RunConfig, "tasks", ("rotate",), {}),
    (RunConfig, "weighting", "learned", {}),
    (RunConfig, "task_weights", (1.0, 1.0), FIXED),
    (RunConfig, "task_weights", (1.0, 1.0, -0.1), FIXED),
    (RunConfig, "task_weights", (0.0, 0.0, 0.0), FIXED),
    (RunConfig, "task_weights", (), FIXED),
    (RunConfig, "task_weights", (1.0, 1.0, NAN), FIXED),
    (RunConfig, "temperature", 0.0, {}),
    (RunConfig, "temperature", -0.5, {}),
    (RunConfig, "negatives", "all", {}),
    (RunConfig, "epochs", 0, {}),
    (RunConfig, "epochs", -1, {}),
    (RunConfig, "batch_size", 0, {}),
    (RunConfig, "batch_size", -2, {}),
    (RunConfig, "steps_per_epoch", 0, {}),
    (RunConfig, "steps_per_epoch", -1, {}),
    (RunConfig, "learning_rate", 0.0, {}),
    (RunConfig, "learning_rate", -1e-3, {}),
    (RunConfig, "min_learning_rate", -1e-6, {}),
    (RunConfig, "min_learning_rate", 1.0, {}),
    (RunConfig, "warmup_epochs", -1, {}),
    (RunConfig, "weight_decay", -0.05, {}),
    (RunConfig, "clip_norm", 0.0, {}),
    (RunConfig, "clip_norm", -1.0, {}),
    (RunConfig, "precision", "fp16", {}),
    (RunConfig, "value_range", (1.0, 1.0), {}),
    (RunConfig, "value_range", (0.0, float("inf")), {}),
    (RunConfig, "value_range", (0.0, 1.0, 2.0), {}),
    (RunConfig, "holdout", -0.1, {}),
    (RunConfig, "holdout", 1.0, {}),
    (RunConfig, "sheet_every", 0, {}),
    (RunConfig, "measure_every", 0, {}),
    (RunConfig, "sheet_every", -1, {}),
    (RunConfig, "recipe", "", {}),
    (RunConfig, "min_task_weight", -0.1, {}),
    (RunConfig, "weight_decay_end", -0.1, {}),
    (RunConfig, "rate_scaling", "square", {}),
    (RunConfig, "seed", -1, {}),
    (RunConfig, "seed", 2**32 - 1, {}),
    (FinetuneConfig, "rand_augment", -1, {}),
    (FinetuneConfig, "rand_augment", 11, {}),
    (FinetuneConfig, "magnitude", -0.1, {}),
    (FinetuneConfig, "magnitude", 10.1, {}),
    (FinetuneConfig, "erasing", -0.1, {}),
    (FinetuneConfig, "erasing", 1.1, {}),
    (FinetuneConfig, "mixup", -0.1, {}),
    (FinetuneConfig, "mixup", 0.05, {}),
    (FinetuneConfig, "cutmix", -0.1, {}),
    (FinetuneConfig, "cutmix", 101.0, {}),
    (FinetuneConfig, "label_smoothing", -0.1, {}),
    (FinetuneConfig, "label_smoothing", 1.0, {}),
    (FinetuneConfig, "epochs", 0, {}),
    (FinetuneConfig, "batch_size", 0, {}),
    (FinetuneConfig, "learning_rate", 0.0, {}),
    (FinetuneConfig, "min_learning_rate", -1e-6, {}),
    (FinetuneConfig, "min_learning_rate", 1.0, {}),
    (FinetuneConfig, "warmup_epochs", -1, {}),
    (FinetuneConfig, "weight_decay", -0.05, {}),
    (FinetuneConfig, "layer_decay", 0.0, {}),
    (FinetuneConfig, "layer_decay", 1.1, {}),
    (FinetuneConfig, "drop_path_rate", -0.1, {}),
    (FinetuneConfig, "drop_path_rate", 1.0, {}),
    (FinetuneConfig, "ema_momentum", 0.0, {}),
    (FinetuneConfig, "ema_momentum", 1.0, {}),
    (FinetuneConfig, "hidden_dim", 0, {}),
    (FinetuneConfig, "hidden_dim", -1, {}),
    (FinetuneConfig, "head_learning_rates", (), {}),
    (FinetuneConfig, "head_learning_rates", (1.0, 0.0), {}),
    (FinetuneConfig, "head_learning_rates", (1.0, INF), {}),
    (FinetuneConfig, "head_weight_decays", (), {}),
    (FinetuneConfig, "head_weight_decays", (0.0, -1e-4), {}),
    (FinetuneConfig, "holdout", -0.1, {}),
    (FinetuneConfig, "holdout", 1.0, {}),
    (FinetuneConfig, "precision", "fp16", {}),
    (FinetuneConfig, "seed", -1, {}),
    (FinetuneConfig, "seed", 2**40, {}),
    (Execution, "strategy", "all", {}),
    (Execution, "micro_batches", 0, {}),
    (Execution, "micro_batches", -1, {}),
    (Execution, "remat", "yes", {}),
    (Execution, "remat", 1, {}),
    (Execution, "on_nan", "go_on", {}),
    (Execution, "on_full_disk", "skip", {}),
    (Execution, "on_changed_images", "skip", {}),
]

# The largest and smallest values that work.
WITHIN_RANGE = [
    (NetworkConfig, "projection_dim", 1, {}),
    (NetworkConfig, "drop_path_rate", 0.0, {}),
    (NetworkConfig, "stem", "conv", {"patch_size": 2}),
    (NetworkConfig, "projection_layers", 3, {"projection_norm": "layer"}),
    (ViewConfig, "brightness", 0.0, {}),
    (ViewConfig, "hue", 0.5, {}),
    (ViewConfig, "jitter_probability", 0.0, {}),
    (ViewConfig, "turned_every", 1, {}),
    (CorruptionConfig, "drop", 1.0, {}),
    (CorruptionConfig, "align", 1, {}),
    (PreprocessingConfig, "value_range", (-1.0, 1.0), {}),
    (RunConfig, "steps_per_epoch", 1, {}),
    (RunConfig, "task_weights", (0.0, 0.0, 1.0), FIXED),
    (RunConfig, "weight_decay", 0.0, {}),
    (RunConfig, "weight_decay_end", 0.0, {}),
    (RunConfig, "min_learning_rate", 0.0, {}),
    (RunConfig, "min_learning_rate", 1e-3, {}),
    (RunConfig, "sheet_every", 1, {}),
    (RunConfig, "measure_every", 1, {}),
    (RunConfig, "warmup_epochs", 600, {}),
    (RunConfig, "holdout", 0.0, {}),
    (RunConfig, "value_range", (-1000.0, 400.0), {}),
    (RunConfig, "seed", 2**32 - 2, {}),
    (FinetuneConfig, "mixup", 0.0, {}),
    (FinetuneConfig, "rand_augment", 0, {}),
    (FinetuneConfig, "head_weight_decays", (0.0,), {}),
]

# The configs whose fields are held to the types that they are annotated with.
TYPED = (
    NetworkConfig, ViewConfig, CorruptionConfig, PreprocessingConfig, RunConfig, FinetuneConfig,
    Execution,
)  # fmt: skip

WRONG_TYPES = {
    bool: (1, 0.0, "True", None),
    int: (True, 1.5, 1.0, "1", None, (1,), NAN),
    float: (True, "0.5", None, (0.5,), NAN, INF, -INF, 10**400),
    str: (3, None, ("digits",), b"digits"),
    tuple: (0.5, "0.5", None, (None, None), (True, True), (NAN, NAN), {}),
}


def configs():
    """Every dataclass of settings in the package `sit_keras.config`."""
    modules = [
        importlib.import_module(f"sit_keras.config.{module.name}")
        for module in pkgutil.iter_modules(sit_keras.config.__path__)
    ]
    found = {
        each
        for module in modules
        for each in vars(module).values()
        if inspect.isclass(each) and dataclasses.is_dataclass(each)
    }
    return sorted(found - {Row}, key=lambda config: config.__name__)


def wrong_types():
    """(config, field, value) for each kind of value that a field's type leaves out."""
    for config in TYPED:
        hints = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            hint = hints[field.name]
            options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            kind = typing.get_origin(options[0]) or options[0]
            for value in WRONG_TYPES.get(kind, ({}, 3, None, "digits")):
                if not (value is None and type(None) in options):
                    yield config, field.name, value
            if kind is tuple:
                texts = typing.get_args(options[0])[0] is str
                yield config, field.name, (0.5, 0.5) if texts else ("0.5", "0.5")


def make(config, name, value, others):
    return config(**{**others, name: value})


def ids(rows):
    return [f"{config.__name__}.{name}={value!r}"[:80] for config, name, value, *_ in rows]


def test_the_table_has_every_field_of_every_config():
    tested = {(config, name) for config, name, *_ in OUT_OF_RANGE}
    groups = (NetworkConfig, ViewConfig, CorruptionConfig, PreprocessingConfig)
    for config in configs():
        hints = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            if hints[field.name] is not bool and hints[field.name] not in groups:
                assert (config, field.name) in tested, (config.__name__, field.name)


@pytest.mark.parametrize(("config", "name", "value", "others"), OUT_OF_RANGE, ids=ids(OUT_OF_RANGE))
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(config, name, value, others):
    with pytest.raises(ValueError) as refusal:
        make(config, name, value, others)
    message = str(refusal.value)
    spellings = (name, name.replace("_", " "), name.removesuffix("s"))
    assert any(spelling in message for spelling in spellings), message
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(("config", "name", "value", "others"), WITHIN_RANGE, ids=ids(WITHIN_RANGE))
def test_values_at_the_ends_of_a_range_are_taken(config, name, value, others):
    assert getattr(make(config, name, value, others), name) == value


@pytest.mark.parametrize(("config", "name", "value"), wrong_types(), ids=ids(wrong_types()))
def test_a_value_of_another_type_is_refused_by_the_name_of_its_field(config, name, value):
    with pytest.raises(ValueError) as refusal:
        config(**{name: value})
    message = str(refusal.value)
    assert message.startswith(f"{name} ") and message.endswith("."), message
    assert "\n" not in message


@pytest.mark.parametrize("config", configs())
def test_the_defaults_of_every_config_work_and_have_their_types(config):
    first = config()
    assert dataclasses.replace(first) == first
    assert json.loads(json.dumps(to_dict(first))) == to_dict(first)


def test_numbers_of_numpy_and_lists_become_plain_values():
    config = RunConfig(
        epochs=np.int64(7), batch_size=np.uint8(12), weight_decay=0, learning_rate=np.float64(0.5),
        task_weights=[1, np.float32(0.5), 0], weighting="fixed", tasks=[*RunConfig().tasks],
        model=NetworkConfig(image_size=np.int32(32), patch_size=np.int16(4)),
    )  # fmt: skip
    assert type(config.epochs) is int and type(config.batch_size) is int
    assert type(config.weight_decay) is float and type(config.learning_rate) is float
    assert config.task_weights == (1.0, 0.5, 0.0)
    assert [type(weight) for weight in config.task_weights] == [float] * 3
    assert type(config.model.image_size) is int and type(config.tasks) is tuple
    json.dumps(to_dict(config))
