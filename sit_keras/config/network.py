"""The network's sizes, and what follows from them. Standard library only."""

import dataclasses
import itertools
import typing

from sit_keras.config.checks import check_choice, require
from sit_keras.config.fields import check_at_least, normalize_fields

STEMS = ("patch", "conv")
PROJECTION_NORMS = ("none", "layer")
MAX_PROJECTION_LAYERS = 3


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The Vision Transformer and its three pretext heads. The defaults are the paper's ViT-B/16.

    Args:
        image_size: int. Side of the square input in pixels, a multiple of `patch_size`. (A
            `SiTBackbone` of its own may be oblong; pre-training turns images by 90 degrees.)
        patch_size: int. Side of a patch in pixels.
        hidden_dim: int. Width D of the tokens.
        num_layers: int. Number of encoder blocks.
        num_heads: int. Attention heads; must divide `hidden_dim`.
        mlp_dim: int. Hidden width of each block's MLP.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it grows linearly from
            0 at the first one.
        layer_norm_epsilon: float.
        projection_dim: int. Width of the contrastive embedding.
        stem: `patch` or `conv`. What makes tokens of an image, see `SiTBackbone`.
        projection_layers: int from 1 to 3. Layers of the contrastive head. All but the last are as
            wide as `mlp_dim`, and a GELU follows each of them.
        projection_norm: `none`, or `layer` for layer normalisation before each of these GELUs.
        channels: int. Of the images: 3 for colours, 1 for grey, or as many bands as they have.
    """

    image_size: int = 224
    patch_size: int = 16
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    drop_path_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    projection_dim: int = 512
    stem: str = "patch"
    projection_layers: int = 1
    projection_norm: str = "none"
    channels: int = 3

    num_prefix_tokens: typing.ClassVar[int] = 2

    def __post_init__(self):
        require(
            not isinstance(self.image_size, (list, tuple)),
            f"image_size must be one number of pixels, since pre-training turns images by 90 "
            f"degrees; received {self.image_size!r}.",
        )
        normalize_fields(self)
        check_at_least(self, 1, "image_size", "projection_dim", "channels")
        check_network(**self.backbone_arguments())
        check_projection(self.projection_layers, self.projection_norm)

    def backbone_arguments(self) -> dict[str, typing.Any]:
        """Returns the arguments with which `SiTBackbone` builds this network."""
        names = [field.name for field in dataclasses.fields(self)]
        names = [x for x in names if not x.startswith(("image_size", "projection_", "channels"))]
        return {"image_shape": self.image_shape, **{name: getattr(self, name) for name in names}}

    def projection_arguments(self) -> dict[str, typing.Any]:
        """Returns the arguments of `SiTPretrainer` that describe the contrastive head."""
        names = ("projection_dim", "projection_layers", "projection_norm")
        return {name: getattr(self, name) for name in names}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the input."""
        return (self.image_size, self.image_size, self.channels)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patch grid."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def num_encoder_parameters(self) -> int:
        """Trainable parameters of the encoder alone."""
        return count_parameters(**self.backbone_arguments())

    @property
    def num_encoder_flops(self) -> int:
        """Floating-point operations of the encoder's matrix products for one image, forward."""
        d, m = self.hidden_dim, self.mlp_dim
        rows, columns = self.grid
        tokens = self.num_prefix_tokens + rows * columns
        patches = rows * columns * self.patch_size**2 * self.channels * d
        if self.stem == "conv":
            patches = rows * columns * d * d
            for i, (old, new) in enumerate(_stem_sizes(self.channels, self.patch_size, d), start=1):
                patches += (self.image_size // 2**i) ** 2 * 9 * old * new
        block = tokens * (4 * d * d + 2 * d * m) + 2 * tokens**2 * d
        return 2 * (patches + self.num_layers * block)  # a product and a sum each

    @property
    def num_flops(self) -> int:
        """As `num_encoder_flops`, of the encoder and its three heads."""
        rows, columns = self.grid
        pixels = rows * columns * self.patch_size**2 * self.channels
        heads = self.hidden_dim * (4 + pixels)
        heads += sum(old * new for old, new in self._projection_sizes)
        return self.num_encoder_flops + 2 * heads

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the encoder and its three heads."""
        d = self.hidden_dim
        rotation = 4 * d + 4
        projection = count_projection_parameters(d, self.mlp_dim, **self.projection_arguments())
        reconstruction = d * self.patch_size**2 * self.channels + self.channels
        return self.num_encoder_parameters + rotation + projection + reconstruction

    @property
    def _projection_sizes(self):
        return _projection_sizes(
            self.hidden_dim, self.mlp_dim, self.projection_dim, self.projection_layers
        )


def stem_widths(patch_size: int, hidden_dim: int) -> list[int]:
    """Returns the channels of each convolution of a `conv` stem: they double up to `hidden_dim`."""
    halvings = patch_size.bit_length() - 1
    return [max(1, hidden_dim >> halvings - i) for i in range(1, halvings + 1)]


def _stem_sizes(channels, patch_size, hidden_dim):
    """(channels before, channels after) of each convolution of a `conv` stem."""
    return itertools.pairwise([channels, *stem_widths(patch_size, hidden_dim)])


def _projection_sizes(hidden_dim, mlp_dim, projection_dim, projection_layers):
    """(width before, width after) of each layer of the contrastive head."""
    inner = [mlp_dim] * (projection_layers - 1)
    return itertools.pairwise([hidden_dim, *inner, projection_dim])


def count_parameters(
    image_shape: tuple[int, int, int],
    patch_size: int,
    hidden_dim: int,
    num_layers: int,
    mlp_dim: int,
    stem: str = "patch",
    **others: typing.Any,
) -> int:
    """Returns how many parameters `SiTBackbone` has with these arguments, without building it."""
    d, m, (height, width, channels) = hidden_dim, mlp_dim, image_shape
    num_patches = (height // patch_size) * (width // patch_size)
    patches = patch_size**2 * channels * d + d
    if stem == "conv":
        sizes = _stem_sizes(channels, patch_size, d)
        patches = d * d + d + sum(9 * old * new + 2 * new for old, new in sizes)
    prefix_tokens = NetworkConfig.num_prefix_tokens
    prefix = prefix_tokens * d + (prefix_tokens + num_patches) * d
    block = (3 * d * d + 3 * d) + (d * d + d) + (d * m + m) + (m * d + d) + 4 * d
    return patches + prefix + num_layers * block + 2 * d


def count_projection_parameters(
    hidden_dim: int,
    mlp_dim: int,
    projection_dim: int,
    projection_layers: int = 1,
    projection_norm: str = "none",
) -> int:
    """Returns how many parameters the contrastive head of a network of these sizes has."""
    sizes = _projection_sizes(hidden_dim, mlp_dim, projection_dim, projection_layers)
    norms = 2 * mlp_dim * (projection_layers - 1) if projection_norm == "layer" else 0
    return norms + sum(old * new + new for old, new in sizes)


def check_projection(projection_layers: int, projection_norm: str) -> None:
    """Raises ValueError unless these arguments of `SiTPretrainer` make a contrastive head."""
    require(
        type(projection_layers) is int and 1 <= projection_layers <= MAX_PROJECTION_LAYERS,
        f"projection_layers must be a whole number from 1 to {MAX_PROJECTION_LAYERS}, received "
        f"{projection_layers!r}.",
    )
    check_choice("projection_norm", projection_norm, PROJECTION_NORMS)
    require(
        projection_norm == "none" or projection_layers > 1,
        f"projection_norm={projection_norm!r} normalises between the layers of the contrastive "
        "head, and there is a single layer: set projection_layers to 2 or 3.",
    )


def check_network(
    image_shape: tuple[int, int, int],
    patch_size: int,
    hidden_dim: int,
    num_layers: int,
    num_heads: int,
    mlp_dim: int,
    drop_path_rate: float,
    layer_norm_epsilon: float,
    stem: str = "patch",
) -> None:
    """Raises ValueError unless these arguments of `SiTBackbone` make a network."""
    sizes = {
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
    }
    for name, value in sizes.items():
        require(
            type(value) is int and value >= 1,
            f"{name} must be a whole number of at least 1, received {value!r}.",
        )
    require(
        len(image_shape) == 3 and all(type(side) is int and side >= 1 for side in image_shape),
        f"image_shape must be (height, width, channels) in whole numbers; received {image_shape}.",
    )
    height, width, _ = image_shape
    multiple = max(1, round(height / patch_size)) * patch_size
    require(
        height % patch_size == 0 and width % patch_size == 0,
        f"The image size {height} x {width} is not divisible by patch_size {patch_size}: choose a "
        f"multiple, for example {multiple}.",
    )
    require(
        hidden_dim % num_heads == 0,
        f"hidden_dim {hidden_dim} is not divisible by num_heads {num_heads}.",
    )
    require(
        0 <= drop_path_rate < 1, f"drop_path_rate must lie in [0, 1), received {drop_path_rate}."
    )
    require(
        0 < layer_norm_epsilon < 1,
        f"layer_norm_epsilon must lie in (0, 1), received {layer_norm_epsilon}.",
    )
    check_choice("stem", stem, STEMS)
    require(
        stem == "patch" or (patch_size > 1 and patch_size.bit_count() == 1),
        "stem='conv' halves the image until the patches are left, so patch_size must be a power of "
        f"two (2, 4, 8, 16, ...), received {patch_size}: choose one, or stem='patch'.",
    )
