"""The three pretext heads: rotation, contrastive projection, reconstruction. All run in float32.

Shapes: B batch, H W C image, N patches, D width.
"""

import keras
from keras import ops

from sit_keras.models.layers import normal_init, unpatchify

NUM_ROTATIONS = 4


def rotation_head() -> keras.layers.Layer:
    """Returns the linear layer from the rotation token (B, D) to the logits of four angles."""
    return keras.layers.Dense(
        NUM_ROTATIONS, kernel_initializer=normal_init(), dtype="float32", name="rotation"
    )


def projection_head(projection_dim: int) -> keras.layers.Layer:
    """Returns the linear layer from the contrastive token (B, D) to its embedding."""
    return keras.layers.Dense(
        projection_dim, kernel_initializer=normal_init(), dtype="float32", name="contrastive"
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


@keras.saving.register_keras_serializable(package="sit_keras")
class ClassifierHead(keras.layers.Layer):
    """Classifies by a linear layer on each token, whose logits are averaged.

    Args:
        num_classes: int. K.
        hidden_dim: int or None. Width of a tanh layer before each linear one (the paper's
            pre-logits have 1024); None for none.
        class_names: K names, or None.

    Call arguments:
        tokens: a dict with `rotation` and `contrastive`, each (B, D).
        averaged: bool. False gives the logits of each token, whose cross-entropies a loss adds up.

    Returns:
        (B, K) float32 logits, or (B, 2, K).
    """

    tokens = ("rotation", "contrastive")

    def __init__(
        self,
        num_classes: int,
        hidden_dim: int | None = None,
        class_names: tuple[str, ...] | None = None,
        **kwargs,
    ):
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.num_classes = num_classes
        self.hidden_dim = hidden_dim
        self.class_names = class_names

    def build(self, input_shape):
        self.heads = {}
        for token in self.tokens:
            layers = [
                keras.layers.Dense(
                    self.num_classes, kernel_initializer=normal_init(), name="logits"
                )
            ]
            if self.hidden_dim is not None:
                hidden = keras.layers.Dense(self.hidden_dim, activation="tanh", name="hidden")
                layers.insert(0, hidden)
            self.heads[token] = keras.Sequential(layers, name=token)
            self.heads[token].build(input_shape[token])

    def call(self, tokens, averaged=True):
        logits = ops.stack([self.heads[name](tokens[name]) for name in self.tokens], axis=1)
        return ops.mean(logits, axis=1) if averaged else logits

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "hidden_dim": self.hidden_dim,
            "class_names": self.class_names,
        }
