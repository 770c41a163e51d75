"""The network's sizes, and what follows from them. Standard library only."""

import dataclasses
import typing

from sit_keras.config.checks import require

NUM_CHANNELS = 3  # every source delivers RGB


@dataclasses.dataclass(frozen=True)
class SiTConfig:
    """The Vision Transformer and its three pretext heads. The defaults are the paper's ViT-B/16.

    Args:
        image_size: int or (height, width), in pixels. Both must be multiples of `patch_size`.
        patch_size: int. Side of a patch in pixels.
        hidden_dim: int. Width D of the tokens.
        num_layers: int. Number of encoder blocks.
        num_heads: int. Attention heads; must divide `hidden_dim`.
        mlp_dim: int. Hidden width of each block's MLP.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it grows linearly from
            0 at the first one.
        layer_norm_epsilon: float.
        projection_dim: int. Width of the contrastive embedding.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    drop_path_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    projection_dim: int = 512

    num_prefix_tokens: typing.ClassVar[int] = 2

    def __post_init__(self):
        if not isinstance(self.image_size, int):
            object.__setattr__(self, "image_size", tuple(self.image_size))
        for name in ("patch_size", "hidden_dim", "num_layers", "num_heads", "mlp_dim"):
            value = getattr(self, name)
            require(value >= 1, f"{name} must be at least 1, received {value}.")
        height, width = self.input_size
        require(
            height % self.patch_size == 0
            and width % self.patch_size == 0
            and min(height, width) >= self.patch_size,
            f"image_size {height}x{width} is not divisible by patch_size {self.patch_size}: "
            f"choose a multiple, for example image_size={_next_multiple(height, self.patch_size)}.",
        )
        require(
            self.hidden_dim % self.num_heads == 0,
            f"hidden_dim {self.hidden_dim} is not divisible by num_heads {self.num_heads}.",
        )
        require(
            0 <= self.drop_path_rate < 1,
            f"drop_path_rate must lie in [0, 1), received {self.drop_path_rate}.",
        )

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the input in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patch grid."""
        height, width = self.input_size
        return height // self.patch_size, width // self.patch_size

    @property
    def square_size(self) -> int:
        """The side in pixels; pre-training rotates by 90 degrees, so it needs square images."""
        height, width = self.input_size
        require(
            height == width,
            f"Pre-training turns images by 90 degrees, so image_size must be square; "
            f"received {height}x{width}.",
        )
        return height

    @property
    def num_encoder_parameters(self) -> int:
        """Trainable parameters of the encoder alone."""
        d, m = self.hidden_dim, self.mlp_dim
        rows, columns = self.grid
        patches = self.patch_size**2 * NUM_CHANNELS * d + d
        prefix = self.num_prefix_tokens * d + (self.num_prefix_tokens + rows * columns) * d
        block = (3 * d * d + 3 * d) + (d * d + d) + (d * m + m) + (m * d + d) + 4 * d
        return patches + prefix + self.num_layers * block + 2 * d

    @property
    def num_encoder_flops(self) -> int:
        """Floating-point operations of the encoder's matrix products for one image, forward."""
        d, m = self.hidden_dim, self.mlp_dim
        rows, columns = self.grid
        tokens = self.num_prefix_tokens + rows * columns
        patches = rows * columns * self.patch_size**2 * NUM_CHANNELS * d
        block = tokens * (4 * d * d + 2 * d * m) + 2 * tokens**2 * d
        return 2 * (patches + self.num_layers * block)  # a product and a sum each

    @property
    def num_flops(self) -> int:
        """As `num_encoder_flops`, of the encoder and its three heads."""
        rows, columns = self.grid
        pixels = rows * columns * self.patch_size**2 * NUM_CHANNELS
        return self.num_encoder_flops + 2 * self.hidden_dim * (4 + self.projection_dim + pixels)

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the encoder and its three heads."""
        d = self.hidden_dim
        rotation = 4 * d + 4
        projection = self.projection_dim * (d + 1)
        reconstruction = d * self.patch_size**2 * NUM_CHANNELS + NUM_CHANNELS
        return self.num_encoder_parameters + rotation + projection + reconstruction


def _next_multiple(value: int, of: int) -> int:
    return max(1, round(value / of)) * of
