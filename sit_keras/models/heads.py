"""The three pretext heads: rotation, contrastive projection, reconstruction. All run in float32.

Shapes: B batch, H W C image, N patches, D width.
"""

import keras
from keras import ops

from sit_keras.config.network import check_projection
from sit_keras.models.layers import LayerNormalization, exact_gelu, normal_init, unpatchify

NUM_ROTATIONS = 4
# The pretext head of each task, by the name of its layer.
HEADS = {
    "rotation": "rotation_head",
    "contrastive": "projection_head",
    "reconstruction": "reconstruction_head",
}


def rotation_head() -> keras.layers.Layer:
    """Returns the linear layer from the rotation token (B, D) to the logits of four angles."""
    return keras.layers.Dense(
        NUM_ROTATIONS, kernel_initializer=normal_init(), dtype="float32", name="rotation_head"
    )


def projection_head(
    projection_dim: int,
    projection_layers: int = 1,
    projection_norm: str = "none",
    hidden_dim: int | None = None,
) -> keras.layers.Layer:
    """Returns the layer from the contrastive token (B, D) to its embedding (B, E).

    Args:
        projection_dim: int. Width E of the embedding.
        projection_layers: int. 1 for a linear layer, more for a `ProjectionHead`.
        projection_norm, hidden_dim: as for `ProjectionHead`.
    """
    settings = {"dtype": "float32", "name": HEADS["contrastive"]}
    if projection_layers == 1:
        return keras.layers.Dense(projection_dim, kernel_initializer=normal_init(), **settings)
    return ProjectionHead(
        projection_dim, hidden_dim or projection_dim, projection_layers, projection_norm, **settings
    )


@keras.saving.register_keras_serializable(package="sit_keras")
class ProjectionHead(keras.layers.Layer):
    """Projects tokens by linear layers, with GELU after all of them but the last.

    Args:
        projection_dim: int. Width E of the embedding.
        hidden_dim: int. Width of the layers before the last one.
        projection_layers: int. Linear layers, at least 2.
        projection_norm: str. `layer` normalises the channels before each GELU, `none` does not.

    Call arguments:
        tokens: (B, D).

    Returns:
        (B, E).

    Reference:
        Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations,
        arXiv:2002.05709, section 4.2, which has ReLU and, in its code, batch normalisation.
    """

    def __init__(
        self,
        projection_dim: int,
        hidden_dim: int,
        projection_layers: int = 2,
        projection_norm: str = "none",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.projection_dim = projection_dim
        self.hidden_dim = hidden_dim
        self.projection_layers = projection_layers
        self.projection_norm = projection_norm

    def build(self, input_shape):
        self.hidden, self.norms = [], []
        shape = input_shape
        for i in range(self.projection_layers - 1):
            self.hidden.append(self._dense(self.hidden_dim, f"hidden_{i}", shape))
            shape = (input_shape[0], self.hidden_dim)
            if self.projection_norm == "layer":
                norm = LayerNormalization(epsilon=1e-6, name=f"norm_{i}", dtype=self.dtype_policy)
                norm.build(shape)
                self.norms.append(norm)
        self.last = self._dense(self.projection_dim, "last", shape)

    def _dense(self, units, name, input_shape):
        layer = keras.layers.Dense(
            units, kernel_initializer=normal_init(), name=name, dtype=self.dtype_policy
        )
        layer.build(input_shape)
        return layer

    def call(self, tokens):
        x = tokens
        for i, hidden in enumerate(self.hidden):
            x = hidden(x)
            x = exact_gelu(self.norms[i](x) if self.norms else x)
        return self.last(x)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.projection_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "projection_dim": self.projection_dim,
            "hidden_dim": self.hidden_dim,
            "projection_layers": self.projection_layers,
            "projection_norm": self.projection_norm,
        }


@keras.saving.register_keras_serializable(package="sit_keras")
class ReconstructionHead(keras.layers.Layer):
    """Turns each patch token back into pixels by one linear layer, with one bias per channel.

    It equals a transposed convolution whose stride is its kernel size, which is what the authors
    use for the paper's fully connected layer.

    Args:
        grid: (rows, columns) of patches.
        patch_size: int. Side of a patch in pixels.
        num_channels: int. Channels C of the image.

    Call arguments:
        patches: (B, N, D).

    Returns:
        (B, H, W, C), in normalised pixel values.
    """

    def __init__(self, grid: tuple[int, int], patch_size: int, num_channels: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.patch_size = patch_size
        self.num_channels = num_channels

    def build(self, input_shape):
        width = input_shape[-1]
        # The authors leave the transposed convolution at PyTorch's own initialisation, whose fan-in
        # counts the output side of the kernel.
        limit = (self.patch_size**2 * self.num_channels) ** -0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(width, self.patch_size**2 * self.num_channels),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(self.num_channels,),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )

    def call(self, patches):
        pixels = ops.matmul(patches, self.kernel)  # (B, N, p*p*C)
        return unpatchify(pixels, self.grid, self.patch_size) + self.bias

    def compute_output_shape(self, input_shape):
        rows, columns = self.grid
        size = (rows * self.patch_size, columns * self.patch_size)
        return (input_shape[0], *size, self.num_channels)

    def get_config(self):
        return {
            **super().get_config(),
            "grid": self.grid,
            "patch_size": self.patch_size,
            "num_channels": self.num_channels,
        }


def build_pretext_network(
    backbone: keras.Model,
    projection_dim: int,
    projection_layers: int = 1,
    projection_norm: str = "none",
) -> keras.Model:
    """Returns a backbone with its three pretext heads.

    Args:
        backbone: SiTBackbone. Shared, not copied.
        projection_dim: int. Width E of the contrastive embedding.
        projection_layers, projection_norm: as for `NetworkConfig`.

    Returns:
        A functional model from normalised images (B, H, W, C) to a dict: `rotation_logits` (B, 4),
        `projection` (B, E), `reconstruction` (B, H, W, C).

    Raises:
        ValueError: for layers and a norm that make no head.
    """
    check_projection(projection_layers, projection_norm)
    images = keras.Input(backbone.image_shape, name="images")
    tokens = backbone(images)
    reconstruction_head = ReconstructionHead(
        backbone.grid,
        backbone.patch_size,
        backbone.image_shape[-1],
        dtype="float32",
        name="reconstruction_head",
    )
    outputs = {
        "rotation_logits": rotation_head()(tokens["rotation_token"]),
        "projection": projection_head(
            projection_dim, projection_layers, projection_norm, backbone.mlp_dim
        )(tokens["contrastive_token"]),
        "reconstruction": reconstruction_head(tokens["patch_tokens"]),
    }
    return keras.Model(images, outputs, name="pretext_network")
