"""The three pretext heads: rotation, contrastive projection, reconstruction. All run in float32.

Shapes: B batch, H W C image, N patches, D width.
"""

import keras
from keras import ops

from sit_keras.models.layers import normal_init, unpatchify

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


def projection_head(projection_dim: int) -> keras.layers.Layer:
    """Returns the linear layer from the contrastive token (B, D) to its embedding."""
    return keras.layers.Dense(
        projection_dim, kernel_initializer=normal_init(), dtype="float32", name="projection_head"
    )


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


def build_pretext_network(backbone: keras.Model, projection_dim: int) -> keras.Model:
    """Returns a backbone with its three pretext heads.

    Args:
        backbone: SiTBackbone. Shared, not copied.
        projection_dim: int. Width E of the contrastive embedding.

    Returns:
        A functional model from normalised images (B, H, W, C) to a dict: `rotation_logits` (B, 4),
        `projection` (B, E), `reconstruction` (B, H, W, C).
    """
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
        "projection": projection_head(projection_dim)(tokens["contrastive_token"]),
        "reconstruction": reconstruction_head(tokens["patch_tokens"]),
    }
    return keras.Model(images, outputs, name="pretext_network")
