"""Weights of encoders: loading, copying, resizing position embeddings."""

import dataclasses
import os

import keras
from keras import ops

from sit_keras.models.backbone import SiTEncoder


def load_encoder(
    path: str | os.PathLike, image_size: int | tuple[int, int] | None = None
) -> SiTEncoder:
    """Loads a saved encoder, for another image size if asked.

    Args:
        path: a run folder, or the `encoder.keras` in it.
        image_size: int or (height, width) or None. Another input size in pixels; the position
            embeddings are resized to its grid.

    Raises:
        ValueError: if there is no encoder at `path`, or the file is none of this package's.
    """
    file = os.path.join(path, "encoder.keras") if os.path.isdir(path) else os.fspath(path)
    if not os.path.isfile(file):
        raise ValueError(
            f"No encoder at {file}: expected a run folder of train.py or a .keras file."
        )
    try:
        encoder = keras.saving.load_model(file, compile=False)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{file} cannot be read as an encoder: {error}") from error
    if not isinstance(encoder, SiTEncoder):
        raise ValueError(
            f"{file} holds a {type(encoder).__name__}, expected a SiTEncoder as saved by train.py."
        )
    return encoder if image_size is None else resize_encoder(encoder, image_size)


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
            "networks must be of the same preset, and `resize_encoder` makes the image sizes agree."
        )
    for path, weight in old.items():
        new[path].assign(weight)
    return [path for path in new if path not in old]


def resize_encoder(encoder: SiTEncoder, image_size: int | tuple[int, int]) -> SiTEncoder:
    """Returns a copy of an encoder for another image size, its position embeddings resized.

    Args:
        encoder: SiTEncoder.
        image_size: int or (height, width), in pixels.
    """
    config = dataclasses.replace(encoder.config, image_size=image_size)
    resized = SiTEncoder(config, name=encoder.name)
    for old, new in zip(encoder.weights, resized.weights, strict=True):
        if old.path.endswith("prefix_tokens/positions"):
            new.assign(resize_positions(old, encoder.config.grid, config.grid))
        else:
            new.assign(old)
    return resized


def resize_positions(positions, grid: tuple[int, int], new_grid: tuple[int, int]):
    """Resizes position embeddings to another patch grid; the prefix tokens' stay as they are.

    The kernel is cubic with a = -0.75 and no antialiasing, which is what PyTorch's bicubic
    interpolation does and what the authors' code resizes with.

    Args:
        positions: (1, P + N, D).
        grid: (rows, columns) of the N patches.
        new_grid: (rows, columns) wanted; neither grid need be square.

    Returns:
        (1, P + N', D).
    """
    num_prefix = positions.shape[1] - grid[0] * grid[1]
    prefix, patches = positions[:, :num_prefix], positions[:, num_prefix:]
    patches = ops.reshape(patches, (*grid, -1))  # (rows, columns, D)
    rows, columns = (_cubic_matrix(old, new) for old, new in zip(grid, new_grid, strict=True))
    patches = ops.einsum("ir,rcd->icd", rows, patches)
    patches = ops.einsum("jc,icd->ijd", columns, patches)
    patches = ops.reshape(patches, (1, new_grid[0] * new_grid[1], -1))
    return ops.concatenate([prefix, patches], axis=1)


def _cubic_matrix(old: int, new: int, a: float = -0.75):
    """Returns the (new, old) matrix of cubic interpolation, borders clamped."""
    centre = (ops.arange(new, dtype="float32") + 0.5) * (old / new) - 0.5
    matrix = ops.zeros((new, old))
    for tap in range(-1, 3):
        source = ops.floor(centre) + tap
        x = ops.abs(centre - source)
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = ((x - 5) * x + 8) * x * a - 4 * a
        weight = ops.where(x <= 1, near, ops.where(x < 2, far, 0.0))
        index = ops.cast(ops.clip(source, 0, old - 1), "int32")
        matrix = matrix + weight[:, None] * ops.one_hot(index, old)
    return matrix
