"""Backbones from presets, folders and files, and how weights are copied between networks.

A preset folder has the names and the layout of KerasHub's. Only classes of this package are ever
built from one, whatever its files say.
"""

import functools
import os
import typing

import keras

from sit_keras.config.network import check_network, count_parameters
from sit_keras.config.presets import presets, run_config
from sit_keras.config.shipped import shipped
from sit_keras.models import keras_files
from sit_keras.models.frozen import TRAINABLE, without_frozen
from sit_keras.models.keras_files import CONFIG, WEIGHTS, Plan, explained
from sit_keras.models.positions import resize_positions
from sit_keras.models.preset_names import encoder_in, is_name, preset_path, tell_of_namesake

# Arguments of a backbone from which none of its weights follows, but for the positions.
_FREE = (
    "image_shape",
    "drop_path_rate",
    "layer_norm_epsilon",
    "preprocessing",
    "seed",
    "dtype",
    "name",
    TRAINABLE,
)
# More than any network has, so that a file cannot ask for days of building.
MAX_SIZE, MAX_LAYERS, MAX_NAME = 2**20, 1000, 200
_SIZES = (
    "image_shape",
    "patch_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "mlp_dim",
    "drop_path_rate",
    "layer_norm_epsilon",
)
_DTYPES = ("float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16", None)


def from_preset(
    cls: type[keras.Model],
    preset: str | os.PathLike,
    load_weights: bool = True,
    **changes: typing.Any,
) -> keras.Model:
    """Loads a backbone; see `SiTBackbone.from_preset`.

    Args:
        cls: the class that is expected.
        preset, load_weights: as there.
        **changes: arguments of the class that differ from those saved.
    """
    if is_name(preset) and preset in presets():
        return _named(cls, preset, load_weights, changes)
    path = preset_path(preset)
    if path.suffix == ".keras":
        source = keras_files.load_keras(path, "an encoder", functools.partial(backbone_plan, cls))
    else:
        source = _load_folder(cls, path, load_weights)
    target = cls.from_config({**source.get_config(), **changes})
    if load_weights:
        copy_resized(source, target)
    return target


def saved_arguments(cls: type[keras.Model], preset: str | os.PathLike) -> dict[str, typing.Any]:
    """Returns the arguments of a saved backbone, which is not built.

    Args:
        cls, preset: as for `from_preset`.

    Raises:
        ValueError: if there is no such preset, it has no weights, or holds something else.
    """
    if is_name(preset) and preset in presets():
        return _named(cls, preset, True, {}).get_config()
    path = preset_path(preset)
    path = path if path.suffix == ".keras" else path / CONFIG
    with explained(path, "an encoder"):
        config = backbone_plan(cls, keras_files.read_config(path)).config
    return {"stem": "patch", **config}  # older files do not name it


def _load_folder(cls, folder, load_weights):
    with explained(folder / CONFIG, "a preset"):
        plan = backbone_plan(cls, keras_files.read_config(folder / CONFIG))
    with explained(folder / WEIGHTS, "weights of this network"):
        keras_files.check_count(folder / WEIGHTS, plan.num_parameters)
    with explained(folder / CONFIG, "a preset"):
        model = plan.build()
    if load_weights:
        with explained(folder / WEIGHTS, "weights of this network"):
            keras_files.fill(model, folder / WEIGHTS)
    return model


def _named(cls, name, load_weights, changes):
    if load_weights:
        here = f" That of the folder {name} here is ./{name}." if encoder_in(name) else ""
        raise ValueError(
            f"The preset {name!r} is a network without weights: use load_weights=False to start "
            f"from new ones, or give a folder of trained weights or one of {', '.join(shipped())}."
            f"{here}"
        )
    tell_of_namesake(name, "preset")
    config = run_config(name)
    arguments = config.model.backbone_arguments()
    return cls(**{**arguments, "preprocessing": config.preprocessing, **changes})


def backbone_plan(cls: type[keras.Model], values: typing.Any) -> Plan:
    """Returns the backbone that JSON values describe, as a preset or a `.keras` file has them.

    Args:
        cls: the class that is expected.
        values: what was read.

    Raises:
        ValueError: if they describe another class, or sizes that make no network.
    """
    config = without_frozen(described(cls, values))
    try:
        sizes = {name: config[name] for name in _SIZES}
        sizes["image_shape"] = tuple(sizes["image_shape"])
        sizes["stem"] = config.get("stem", "patch")  # which older files do not name
        check_network(**sizes)
    except KeyError as error:
        raise ValueError(f"it does not describe a {cls.__name__}: it lacks {error}.") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"it does not describe a {cls.__name__}: {error}") from error
    for side in sizes["image_shape"]:
        check_size("a side of image_shape", side)
    for name in ("patch_size", "hidden_dim", "num_layers", "num_heads", "mlp_dim"):
        check_size(name, sizes[name], MAX_LAYERS if name == "num_layers" else MAX_SIZE)
    if config.get("dtype") not in _DTYPES:
        raise ValueError(f"dtype is {config['dtype']!r}, expected one of {_DTYPES[:-1]}.")
    return Plan(config, lambda: _build(cls, config), count_parameters(**sizes))


def described(cls: type, values: typing.Any, inner: typing.Sequence[str] = ()) -> dict:
    """Returns the arguments of a class from JSON values.

    Args:
        cls: the class that is expected.
        values: what was read.
        inner: names of arguments that may be described in the same way.

    Raises:
        ValueError: if the values describe another class, or one of the arguments does.
    """
    found = values.get("registered_name") if isinstance(values, dict) else None
    if found != registered_name(cls) or not isinstance(values.get("config"), dict):
        shown = found or (values.get("class_name") if isinstance(values, dict) else values)
        raise ValueError(f"it holds {shown!r}, expected {registered_name(cls)}.")
    for name, value in values["config"].items():
        if isinstance(value, dict) and "class_name" in value and name not in inner:
            raise ValueError(f"it holds a {value['class_name']!r} as {name}: expected none.")
    name = values["config"].get("name", "")
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise ValueError(f"its name must be a text of at most {MAX_NAME} characters.")
    return values["config"]


def registered_name(cls: type) -> str:
    """Returns the name that Keras writes for a class."""
    return keras.saving.get_registered_name(cls)


def check_size(name: str, value: typing.Any, most: int = MAX_SIZE) -> None:
    """Raises ValueError unless a size that a file gives is a whole number from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most:,}.")


def _build(cls, config):
    try:
        return cls.from_config(config)
    except Exception as error:  # the values are anybody's
        raise ValueError(f"it does not describe a {cls.__name__}: {error}") from error


def copy_weights(source: keras.Model, target: keras.Model) -> list[str]:
    """Copies the weights that two models share by name, and says which ones it left.

    Args:
        source: keras.Model. Every weight of it must be found.
        target: keras.Model, such as `source` with a head on top.

    Returns:
        The paths of the weights of `target` that `source` does not have, which stay new.

    Raises:
        ValueError: if `target` lacks weights of `source`, or has them in other shapes.
    """
    old, new = ({weight.path: weight for weight in model.weights} for model in (source, target))
    wrong = [
        f"{path}: {tuple(weight.shape)} -> {tuple(new[path].shape) if path in new else 'missing'}"
        for path, weight in old.items()
        if path not in new or weight.shape != new[path].shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise ValueError(
            f"{len(wrong)} of {len(old)} weights do not fit ({'; '.join(wrong[:8])}{more}): the "
            "networks must be of the same preset, and `from_preset(..., image_shape=)` makes the "
            "image sizes agree."
        )
    for path, weight in old.items():
        new[path].assign(weight)
    return [path for path in new if path not in old]


def copy_resized(source: keras.Model, target: keras.Model) -> None:
    """Copies all weights between two backbones, resizing the position embeddings if need be.

    Raises:
        ValueError: if the backbones differ in more than their image size.
    """
    names = [name for name in source.get_config() if name not in _FREE]
    other = [
        f"{name}: {source.get_config()[name]} -> {target.get_config()[name]}"
        for name in names
        if source.get_config()[name] != target.get_config()[name]
    ]
    channels = [each.image_shape[-1] for each in (source, target)]
    if channels[0] != channels[1]:
        other.append(f"channels: {channels[0]} -> {channels[1]}")
    if other:
        raise ValueError(f"The weights are those of another network ({'; '.join(other)}).")
    for old, new in zip(source.weights, target.weights, strict=True):
        if old.path.endswith("prefix_tokens/positions"):
            new.assign(resize_positions(old, source.grid, target.grid))
        else:
            new.assign(old)


def start_from(preset: str, backbone: keras.Model) -> None:
    """Copies the weights of a saved encoder into a new one for training to start from.

    Args:
        preset: str. As for `SiTBackbone.from_preset`.
        backbone: SiTBackbone of the same sizes, but for its image size.

    Raises:
        ValueError: if there is no such encoder, or it is another network.
    """
    try:
        copy_resized(from_preset(type(backbone), preset, dtype="float32"), backbone)
    except ValueError as error:
        raise ValueError(
            f"The initial encoder {preset} does not fit this run: {error} Choose its --preset, or "
            "--set=model.NAME=VALUE."
        ) from error
