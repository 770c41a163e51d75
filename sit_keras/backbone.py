"""The functional encoder, the encoder with its pretext heads, and position resizing.

Shapes: B batch, H W C image, N patches, P prefix tokens, D width.
"""

import dataclasses
import os

import keras
from keras import ops

from sit_keras.config import NUM_CHANNELS, SiTConfig
from sit_keras.config_json import from_dict, to_dict
from sit_keras.heads import ClassifierHead, ReconstructionHead, projection_head, rotation_head
from sit_keras.layers import EncoderBlock, PatchEmbedding, PrefixTokens, Seed


@keras.saving.register_keras_serializable(package="sit_keras")
class SiTEncoder(keras.Model):
    """The Vision Transformer of SiT as a functional model.

    Args:
        config: SiTConfig.
        seed: int, None or a `keras.random.SeedGenerator`. Of the drop-path noise.

    Input:
        images: (B, H, W, C) float, normalised by `sit_keras.data.normalize`.

    Output:
        A dict: `rotation` (B, D), `contrastive` (B, D), `patches` (B, N, D), all after the final
        LayerNorm.

    Reference:
        Atito et al. 2021, SiT: Self-supervised vIsion Transformer, arXiv:2104.03602.
    """

    def __init__(self, config: SiTConfig, seed: Seed = None, **kwargs):
        # === Layers ===
        rates = [
            config.drop_path_rate * i / max(1, config.num_layers - 1)
            for i in range(config.num_layers)
        ]
        patch_embedding = PatchEmbedding(
            config.patch_size, config.hidden_dim, name="patch_embedding"
        )
        prefix_tokens = PrefixTokens(name="prefix_tokens")
        blocks = [
            EncoderBlock(
                config.num_heads,
                config.mlp_dim,
                drop_path_rate=rate,
                layer_norm_epsilon=config.layer_norm_epsilon,
                seed=seed,
                name=f"block_{i}",
            )
            for i, rate in enumerate(rates)
        ]
        norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name="norm")

        # === Functional graph ===
        images = keras.Input((*config.input_size, NUM_CHANNELS), name="images")
        x = prefix_tokens(patch_embedding(images))  # (B, P + N, D)
        for block in blocks:
            x = block(x)
        x = norm(x)
        outputs = {
            "rotation": x[:, 0],
            "contrastive": x[:, 1],
            "patches": x[:, config.num_prefix_tokens :],
        }
        super().__init__(images, outputs, **kwargs)

        # === Config ===
        self.config = config

    def get_config(self):
        return {"name": self.name, "config": to_dict(self.config)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        values = {**config, "config": from_dict(SiTConfig, config["config"])}
        return cls(**values)


def build_encoder(config: SiTConfig, seed: Seed = None) -> SiTEncoder:
    """Returns an untrained encoder.

    Args:
        config: SiTConfig, for example `sit_keras.presets()["native32"]`.
        seed: as for `SiTEncoder`.
    """
    return SiTEncoder(config, seed, name="sit_encoder")


def build_ssl_model(config: SiTConfig, seed: Seed = None) -> keras.Model:
    """Returns the encoder with its three pretext heads.

    Args:
        config: SiTConfig.
        seed: as for `SiTEncoder`.

    Returns:
        A functional model from images (B, H, W, C) to a dict: `rotation` (B, 4) logits,
        `contrastive` (B, projection_dim), `reconstruction` (B, H, W, C). Its encoder is the layer
        `sit_encoder`.
    """
    encoder = build_encoder(config, seed)
    images = keras.Input((*config.input_size, NUM_CHANNELS), name="images")
    tokens = encoder(images)
    reconstruction_head = ReconstructionHead(
        config.grid, config.patch_size, NUM_CHANNELS, dtype="float32", name="reconstruction"
    )
    outputs = {
        "rotation": rotation_head()(tokens["rotation"]),
        "contrastive": projection_head(config.projection_dim)(tokens["contrastive"]),
        "reconstruction": reconstruction_head(tokens["patches"]),
    }
    return keras.Model(images, outputs, name="sit")


def build_classifier(
    encoder: SiTEncoder,
    num_classes: int,
    hidden_dim: int | None = None,
    class_names: tuple[str, ...] | None = None,
) -> keras.Model:
    """Returns an encoder with a head that averages the logits of its two tokens.

    Args:
        encoder: SiTEncoder. Shared, not copied.
        num_classes: int. K.
        hidden_dim, class_names: as for `ClassifierHead`.

    Returns:
        A functional model from images (B, H, W, C) to logits (B, K) float32. Its layers are
        `sit_encoder` and `classifier`.
    """
    images = keras.Input((*encoder.config.input_size, NUM_CHANNELS), name="images")
    head = ClassifierHead(num_classes, hidden_dim, class_names, name="classifier")
    logits = head(encoder(images))
    return keras.Model(images, logits, name="sit_classifier")


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
