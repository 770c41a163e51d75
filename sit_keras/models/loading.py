"""Backbones from presets, folders and files, and how weights are copied between networks.

A preset folder has the names and the layout of KerasHub's. Only classes of this package are ever
built from one, whatever its files say.
"""

import json
import os
import pathlib
import typing
import zipfile

import keras

from sit_keras.config.presets import presets, run_config
from sit_keras.models.positions import resize_positions

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
ENCODER = "encoder.keras"  # in a run folder
_HUB = "hf://"
# Arguments of a backbone from which none of its weights follows, but for the positions.
_FREE = (
    "image_shape",
    "drop_path_rate",
    "layer_norm_epsilon",
    "preprocessing",
    "seed",
    "dtype",
    "name",
)


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
    if os.fspath(preset) in presets():
        return _named(cls, os.fspath(preset), load_weights, changes)
    path = preset_path(preset)
    if path.suffix == ".keras":
        source = _load_file(cls, path)
    else:
        values = read_config(path / CONFIG, (cls,))
        source = _build(cls, values["config"], path / CONFIG)
        if load_weights:
            read_weights(source, path / WEIGHTS)
    target = cls.from_config({**source.get_config(), **changes})
    if load_weights:
        copy_resized(source, target)
    return target


def _named(cls, name, load_weights, changes):
    if load_weights:
        raise ValueError(
            f"The preset {name!r} is a network without weights: use load_weights=False to start "
            "from new ones, or give a folder of trained weights."
        )
    config = run_config(name)
    arguments = config.model.backbone_arguments()
    return cls(**{**arguments, "preprocessing": config.preprocessing, **changes})


def preset_path(preset: str | os.PathLike) -> pathlib.Path:
    """Returns the preset folder or the `.keras` file that a preset stands for.

    Raises:
        ValueError: if there is none.
    """
    preset = os.fspath(preset)
    if preset.startswith(_HUB):
        return _download(preset.removeprefix(_HUB))
    path = pathlib.Path(preset).expanduser()
    if path.is_file() and path.suffix == ".keras":
        return path
    if (path / ENCODER).is_file():
        return path / ENCODER
    if (path / WEIGHTS).is_file():
        return path
    raise ValueError(
        f"No encoder at {path}: expected a run folder, a folder of `save_to_preset`, a .keras "
        f"file, hf://user/repository, or one of {', '.join(presets())}."
    )


def _download(name: str) -> pathlib.Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"Loading {_HUB}{name} needs huggingface_hub: pip install huggingface_hub."
        ) from error
    repository, _, revision = name.partition("@")
    files = [CONFIG, WEIGHTS, METADATA, "task.json", "task.weights.h5"]
    return pathlib.Path(
        snapshot_download(repository, revision=revision or None, allow_patterns=files)
    )


def _load_file(cls, path):
    """Loads a `.keras` file, after a look at the class that it claims to hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(CONFIG))
        _refuse_other_classes(path, config, (cls,))
        return keras.saving.load_model(path, compile=False)
    except (zipfile.BadZipFile, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an encoder: {error}") from error


def read_config(path: pathlib.Path, classes: typing.Sequence[type]) -> dict[str, typing.Any]:
    """Returns what a JSON file says of a model of one of these classes.

    Raises:
        ValueError: if it cannot be read, or names another class.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a preset: {error}") from error
    _refuse_other_classes(path, values, classes)
    return values


def _refuse_other_classes(path, values, classes):
    found = values.get("registered_name") if isinstance(values, dict) else None
    expected = [keras.saving.get_registered_name(each) for each in classes]
    if found not in expected or not isinstance(values.get("config"), dict):
        raise ValueError(f"{path} holds {found!r}, expected one of {', '.join(expected)}.")
    for name, value in values["config"].items():
        if isinstance(value, dict) and "class_name" in value:  # Keras would build it
            raise ValueError(f"{path} holds a {value['class_name']!r} as {name}: expected none.")


def _build(cls, config, path):
    try:
        return cls.from_config(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a {cls.__name__}: {error}") from error


def read_weights(model: keras.Model, path: pathlib.Path) -> None:
    """Loads weights into a model; ValueError if they are not there or do not fit."""
    try:
        model.load_weights(path)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as weights of this network: {error}") from error


def save_to_preset(model: keras.Model, folder: str | os.PathLike) -> None:
    """Writes a backbone to a folder; see `SiTBackbone.save_to_preset`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_weights(folder / WEIGHTS)
    metadata = {"keras_version": keras.__version__, "parameter_count": model.count_params()}
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n")
    write_config(model, folder / CONFIG)


def write_config(
    model: keras.Model, path: pathlib.Path, without: typing.Sequence[str] = ()
) -> None:
    """Writes the class and the arguments of a model as JSON, but for those `without`."""
    config = {name: value for name, value in model.get_config().items() if name not in without}
    values = {
        "module": type(model).__module__,
        "class_name": type(model).__name__,
        "registered_name": keras.saving.get_registered_name(type(model)),
        "config": config,
    }
    path.write_text(json.dumps(values, indent=2) + "\n")


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
    if other:
        raise ValueError(f"The weights are those of another network ({'; '.join(other)}).")
    for old, new in zip(source.weights, target.weights, strict=True):
        if old.path.endswith("prefix_tokens/positions"):
            new.assign(resize_positions(old, source.grid, target.grid))
        else:
            new.assign(old)
