"""The Vision Transformer of SiT as a functional Keras model.

Shapes: B batch, H W C image, N patches, P prefix tokens, D width.
"""

import dataclasses
import os
import typing

import keras

from sit_keras.config.network import check_network
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.models import loading, saving
from sit_keras.models.frozen import freeze_parts, frozen_parts, without_frozen
from sit_keras.models.layers import EncoderBlock, LayerNormalization, PatchEmbedding, PrefixTokens
from sit_keras.models.stem import ConvStem
from sit_keras.models.stochastic_depth import BranchNoise


@keras.saving.register_keras_serializable(package="sit_keras")
class SiTBackbone(keras.Model):
    """A Vision Transformer with a rotation token and a contrastive token in front of the patches.

    The defaults are the paper's ViT-B/16.

    Args:
        image_shape: (height, width, channels) of the input; both sides multiples of `patch_size`.
        patch_size: int. Side of a patch in pixels.
        hidden_dim: int. Width D of the tokens.
        num_layers: int. Number of transformer blocks.
        num_heads: int. Attention heads; must divide `hidden_dim`.
        mlp_dim: int. Hidden width of each block's MLP.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it grows linearly from
            0 at the first one. Defaults to 0.1.
        layer_norm_epsilon: float.
        preprocessing: PreprocessingConfig, a dict of its fields, or None for its defaults. How
            images become the input; it is saved with the weights.
        seed: int or None. Of the stochastic depth.
        dtype: str or `keras.DTypePolicy`.
        stem: str. What makes tokens of an image: `patch`, one linear layer for each patch, or
            `conv`, convolutions that halve the image until the grid of patches is left, for which
            `patch_size` must be a power of two (Xiao et al. 2021, arXiv:2106.14881).

    Input:
        images: (B, H, W, C) float, normalised, as `ImagePreprocessing.of(backbone)` makes them.

    Output:
        A dict: `rotation_token` (B, D), `contrastive_token` (B, D), `patch_tokens` (B, N, D), all
        after the final LayerNorm.

    Raises:
        ValueError: for sizes that do not fit each other.

    Attributes:
        remat: bool. Whether each block, and a stem of convolutions, keeps only its input for the
            backward pass, which computes the rest again (rematerialisation, or gradient
            checkpointing): less memory for more time, and the same numbers. False unless it is
            set; it is not saved.

    Reference:
        Atito et al. 2021, SiT: Self-supervised vIsion Transformer, arXiv:2104.03602.

    Example:
        ```
        backbone = sit_keras.SiTBackbone(
            image_shape=(32, 32, 3), patch_size=4, hidden_dim=192, num_layers=9, num_heads=3,
            mlp_dim=768,
        )
        tokens = backbone(normalised_images)
        ```
    """

    num_prefix_tokens = 2

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        patch_size: int = 16,
        hidden_dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_dim: int = 3072,
        drop_path_rate: float = 0.1,
        layer_norm_epsilon: float = 1e-6,
        preprocessing: PreprocessingConfig | dict[str, typing.Any] | None = None,
        seed: int | None = None,
        dtype: typing.Any = None,
        name: str = "sit_backbone",
        stem: str = "patch",
    ):
        image_shape = (*image_shape,)  # a list, where a config was read
        arguments: dict[str, typing.Any] = {
            "image_shape": image_shape,
            "patch_size": patch_size,
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "drop_path_rate": drop_path_rate,
            "layer_norm_epsilon": layer_norm_epsilon,
            "stem": stem,
        }
        check_network(**arguments)
        resolved = _resolve(preprocessing, image_shape[-1])

        # === Layers ===
        noise = BranchNoise(seed, name="branch_noise")
        rates = [drop_path_rate * i / max(1, num_layers - 1) for i in range(num_layers)]
        settings = {"dtype": dtype, "name": "patch_embedding"}
        if stem == "conv":
            patch_embedding = ConvStem(patch_size, hidden_dim, layer_norm_epsilon, **settings)
        else:
            patch_embedding = PatchEmbedding(patch_size, hidden_dim, **settings)
        prefix_tokens = PrefixTokens(dtype=dtype, name="prefix_tokens")
        blocks = [
            EncoderBlock(
                num_heads,
                mlp_dim,
                drop_path_rate=rate,
                layer_norm_epsilon=layer_norm_epsilon,
                seed=noise,
                dtype=dtype,
                name=f"block_{i}",
            )
            for i, rate in enumerate(rates)
        ]
        norm = LayerNormalization(epsilon=layer_norm_epsilon, dtype=dtype, name="norm")

        # === Functional graph ===
        images = keras.Input(image_shape, name="images")
        x = prefix_tokens(patch_embedding(images))  # (B, P + N, D)
        for block in blocks:
            x = block(x)
        x = norm(x)
        outputs = {
            "rotation_token": x[:, 0],
            "contrastive_token": x[:, 1],
            "patch_tokens": x[:, self.num_prefix_tokens :],
        }
        super().__init__(images, outputs, name=name)

        if dtype is not None:
            self.dtype_policy = keras.dtype_policies.get(dtype)

        # === Config ===
        self.image_shape = image_shape
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.drop_path_rate = drop_path_rate
        self.layer_norm_epsilon = layer_norm_epsilon
        self.stem = stem
        self.preprocessing = resolved
        self.seed = seed
        self.noise = noise
        self._arguments = arguments

    def train_with(self, gelu: typing.Callable, layer_norm: typing.Callable) -> None:
        """Sets the functions that compute GELU and layer normalisation in training.

        Args:
            gelu: a function like `sit_keras.models.layers.exact_gelu`.
            layer_norm: a function like `sit_keras.models.layers.layer_norm`.
        """
        for part in self._parts:
            part.train_with(gelu, layer_norm)
        self.get_layer("norm").function_in_training = layer_norm

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patch grid."""
        height, width, _ = self.image_shape
        return height // self.patch_size, width // self.patch_size

    @property
    def remat(self) -> bool:
        return self._parts[0].remat

    @remat.setter
    def remat(self, remat: bool):
        for part in self._parts:
            part.remat = remat

    @property
    def _parts(self):
        """The blocks, and before them a stem of convolutions."""
        stem = ["patch_embedding"] if self.stem == "conv" else []
        blocks = [f"block_{i}" for i in range(self.num_layers)]
        return [self.get_layer(name) for name in (*stem, *blocks)]

    def get_config(self) -> dict[str, typing.Any]:
        return {
            **self._arguments,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "seed": self.seed,
            "dtype": self.dtype_policy.name,
            "name": self.name,
            **frozen_parts(self),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "SiTBackbone":
        return freeze_parts(cls(**without_frozen(config)), config)

    def clone(self, **changes) -> "SiTBackbone":
        """Returns the same network with new weights, some of its arguments changed; none of it is
        frozen."""
        return type(self).from_config({**without_frozen(self.get_config()), **changes})

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike,
        load_weights: bool = True,
        dtype: typing.Any = "float32",
        **changes,
    ) -> "SiTBackbone":
        """Loads a backbone by its name or from a folder.

        Args:
            preset: str or path. The name of a trained encoder that comes with the package, such as
                `sit_digits`, or of a preset without weights, such as `native32`; a folder of
                `save_to_preset`, a run folder or a `.keras` file; or `hf://user/repository`. Where
                a folder has one of the names, the name counts: `./sit_digits` is the folder.
            load_weights: bool. False gives new weights.
            dtype: str or `keras.DTypePolicy`. What it computes in, whatever it was trained in.
            **changes: arguments of `SiTBackbone` that differ. With another `image_shape` the
                position embeddings are resized.

        Raises:
            ValueError: if there is no such preset, it has no weights, or holds something else.
        """
        return loading.from_preset(cls, preset, load_weights, dtype=dtype, **changes)

    def save_to_preset(self, folder: str | os.PathLike) -> None:
        """Writes the backbone to a folder that `from_preset` reads.

        Args:
            folder: str or path. Gets `config.json`, `model.weights.h5` and `metadata.json`, all of
                them or, if writing fails, none.
        """
        saving.save_to_preset(self, folder)


def _resolve(
    preprocessing: PreprocessingConfig | dict[str, typing.Any] | None, num_channels: int
) -> PreprocessingConfig:
    """Returns a PreprocessingConfig for images of so many channels."""
    if isinstance(preprocessing, dict):
        preprocessing = PreprocessingConfig(**preprocessing)
    if preprocessing is None:
        if num_channels == 3:
            return PreprocessingConfig()
        half = (0.5,) * num_channels  # nothing is known of the channels
        return PreprocessingConfig(mean=half, std=half)
    if len(preprocessing.mean) != num_channels:
        raise ValueError(
            f"preprocessing has a mean and a deviation for {len(preprocessing.mean)} channels, and "
            f"image_shape has {num_channels}: give one of each for every channel."
        )
    return preprocessing
