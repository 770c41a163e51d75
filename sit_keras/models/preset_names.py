"""Which folder or file a preset stands for: a name of this package, a place, or a repository."""

import os
import pathlib

from sit_keras.config.presets import presets
from sit_keras.config.shipped import shipped
from sit_keras.models.keras_files import CONFIG, METADATA, WEIGHTS

ENCODER = "encoder.keras"  # in a run folder
_HUB = "hf://"


def is_name(preset: str | os.PathLike) -> bool:
    """Whether a preset is given by a name that this package knows; a `pathlib.Path` never is."""
    return isinstance(preset, str) and (preset in presets() or preset in shipped())


def preset_path(preset: str | os.PathLike) -> pathlib.Path:
    """Returns the preset folder or the `.keras` file that a preset stands for.

    Raises:
        ValueError: if there is none.
    """
    if is_name(preset) and preset in shipped():
        tell_of_namesake(preset, "encoder")
        return shipped()[preset]
    preset = os.fspath(preset)
    if preset.startswith(_HUB):
        return _download(preset.removeprefix(_HUB))
    path = encoder_in(preset)
    if path is None:
        raise ValueError(
            f"No encoder at {pathlib.Path(preset).expanduser()}: expected a run folder, a folder "
            "of `save_to_preset`, a .keras file, hf://user/repository, or one of "
            f"{', '.join([*shipped(), *presets()])}."
        )
    return path


def encoder_in(place: str) -> pathlib.Path | None:
    """Returns the preset folder or the `.keras` file at a place of the disk, None without one."""
    path = pathlib.Path(place).expanduser()
    if path.is_file() and path.suffix == ".keras":
        return path
    if (path / ENCODER).is_file():
        return path / ENCODER
    return path if (path / WEIGHTS).is_file() else None


def tell_of_namesake(name: str, what: str) -> None:
    """Says which one is taken where a folder here has the name of a preset."""
    if encoder_in(name):
        print(
            f"{name} is taken as the {what} of that name in SiT-Keras, not as the folder {name} "
            f"here, which is ./{name}."
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
