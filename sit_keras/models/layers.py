"""The pieces of the Vision Transformer: patches, prefix tokens, attention, the encoder block.

Shapes: B batch, H W C image, p patch side, N patches, P prefix tokens, T = P + N, D width,
A attention heads.
"""

import keras
from keras import ops

from sit_keras.models.stochastic_depth import DropPath, Seed, seed_and_generator

# timm cuts its truncated normal at an absolute +-2, which at 0.02 is an ordinary normal.
INIT_STD = 0.02


def normal_init():
    return keras.initializers.RandomNormal(stddev=INIT_STD)


def uniform_init(fan_in: int):
    """PyTorch's own initialisation, at which the authors leave the patch convolution."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def patchify(images, patch_size: int):
    """Cuts images (B, H, W, C) into flat patches (B, N, p*p*C), row by row."""
    _, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    x = ops.reshape(images, (-1, rows, patch_size, columns, patch_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, rows, columns, p, p, C)
    return ops.reshape(x, (-1, rows * columns, patch_size * patch_size * channels))


def unpatchify(patches, grid: tuple[int, int], patch_size: int):
    """Puts flat patches (B, N, p*p*C) back together into images (B, H, W, C)."""
    rows, columns = grid
    channels = patches.shape[-1] // patch_size**2
    x = ops.reshape(patches, (-1, rows, columns, patch_size, patch_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, rows, p, columns, p, C)
    return ops.reshape(x, (-1, rows * patch_size, columns * patch_size, channels))


@keras.saving.register_keras_serializable(package="sit_keras")
class PatchEmbedding(keras.layers.Layer):
    """Projects each patch to a token: a convolution whose stride is its size, as a matrix product.

    Args:
        patch_size: int. Side of a patch in pixels.
        hidden_dim: int. Width D of a token.

    Call arguments:
        images: (B, H, W, C).

    Returns:
        (B, N, D).
    """

    def __init__(self, patch_size: int, hidden_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim

    def build(self, input_shape):
        fan_in = self.patch_size**2 * input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(fan_in, self.hidden_dim), initializer=uniform_init(fan_in)
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.hidden_dim,), initializer=uniform_init(fan_in)
        )

    def call(self, images):
        return ops.matmul(patchify(images, self.patch_size), self.kernel) + self.bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        num_patches = (height // self.patch_size) * (width // self.patch_size)
        return (batch, num_patches, self.hidden_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "hidden_dim": self.hidden_dim,
        }


@keras.saving.register_keras_serializable(package="sit_keras")
class PrefixTokens(keras.layers.Layer):
    """Puts the rotation and the contrastive token before the patches and adds positions to all.

    Call arguments:
        patches: (B, N, D).

    Returns:
        (B, 2 + N, D), in the order rotation, contrastive, patch 1 ... patch N.
    """

    num_prefix_tokens = 2

    def build(self, input_shape):
        _, num_patches, width = input_shape
        for name in ("rotation_token", "contrastive_token"):
            token = self.add_weight(name=name, shape=(1, 1, width), initializer=normal_init())
            setattr(self, name, token)
        self.positions = self.add_weight(
            name="positions",
            shape=(1, self.num_prefix_tokens + num_patches, width),
            initializer=normal_init(),
        )

    def call(self, patches):
        tokens = ops.concatenate([self.rotation_token, self.contrastive_token], axis=1)
        tokens = ops.repeat(tokens, ops.shape(patches)[0], axis=0)  # (B, P, D)
        return ops.concatenate([tokens, patches], axis=1) + self.positions

    def compute_output_shape(self, input_shape):
        batch, num_patches, width = input_shape
        return (batch, self.num_prefix_tokens + num_patches, width)


@keras.saving.register_keras_serializable(package="sit_keras")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention with one joint query-key-value projection, as in timm.

    Args:
        num_heads: int. Must divide the width of the input.

    Call arguments:
        x: (B, T, D).

    Returns:
        (B, T, D).
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        width = input_shape[-1]
        self.qkv = keras.layers.Dense(
            3 * width, kernel_initializer=normal_init(), name="qkv", dtype=self.dtype_policy
        )
        self.qkv.build(input_shape)
        self.projection = keras.layers.Dense(
            width, kernel_initializer=normal_init(), name="projection", dtype=self.dtype_policy
        )
        self.projection.build(input_shape)

    def call(self, x):
        weights, value = self.weights_and_values(x)
        x = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # (B, T, A, D/A)
        return self.projection(ops.reshape(x, (-1, x.shape[1], x.shape[2] * x.shape[3])))

    def weights_and_values(self, x):
        """Returns softmax(q k' / sqrt(D/A)), (B, A, T, T), and the values (B, A, T, D/A).

        The softmax runs in float32.
        """
        _, tokens, width = x.shape
        head_dim = width // self.num_heads
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, self.num_heads, head_dim))
        query, key, value = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)  # (B, A, T, D/A)
        scores = ops.matmul(query * head_dim**-0.5, ops.swapaxes(key, -1, -2))
        weights = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        return ops.cast(weights, query.dtype), value

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


def exact_gelu(x):
    """Computes x Phi(x), with the normal distribution function Phi."""
    return ops.gelu(x, approximate=False)


def layer_norm(x, gamma, beta, epsilon: float):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts it."""
    return ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=epsilon)


@keras.saving.register_keras_serializable(package="sit_keras")
class LayerNormalization(keras.layers.LayerNormalization):
    """Layer normalisation of the last axis."""

    # A trainer may set a faster way to the same values, see `SiTBackbone.train_with`.
    function_in_training = staticmethod(layer_norm)

    def call(self, x, training=False):
        function = self.function_in_training if training else layer_norm
        return ops.cast(function(x, self.gamma, self.beta, self.epsilon), self.compute_dtype)


@keras.saving.register_keras_serializable(package="sit_keras")
class EncoderBlock(keras.layers.Layer):
    """A pre-norm transformer block: attention, then an MLP with exact GELU, both residual.

    Args:
        num_heads: int. Attention heads.
        mlp_dim: int. Hidden width of the MLP.
        drop_path_rate: float. Stochastic depth on both branches.
        layer_norm_epsilon: float.
        seed: as for `DropPath`.

    Call arguments:
        x: (B, T, D).

    Returns:
        (B, T, D).
    """

    # As `function_in_training` of `LayerNormalization`.
    gelu_in_training = staticmethod(exact_gelu)
    remat = False  # see `SiTBackbone`

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        drop_path_rate: float = 0.0,
        layer_norm_epsilon: float = 1e-6,
        seed: Seed = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.drop_path_rate = drop_path_rate
        self.layer_norm_epsilon = layer_norm_epsilon
        self.seed, self._generator = seed_and_generator(seed)

    def build(self, input_shape):
        width = input_shape[-1]

        def norm(name):
            return LayerNormalization(
                epsilon=self.layer_norm_epsilon, name=name, dtype=self.dtype_policy
            )

        def dense(units, name):
            return keras.layers.Dense(
                units, kernel_initializer=normal_init(), name=name, dtype=self.dtype_policy
            )

        self.attention_norm = norm("attention_norm")
        self.attention = SelfAttention(self.num_heads, name="attention", dtype=self.dtype_policy)
        self.mlp_norm = norm("mlp_norm")
        self.mlp_in = dense(self.mlp_dim, "mlp_in")
        self.mlp_out = dense(width, "mlp_out")
        self.drop_path = DropPath(
            self.drop_path_rate, self._generator, name="drop_path", dtype=self.dtype_policy
        )
        for layer in (
            self.attention_norm,
            self.attention,
            self.mlp_norm,
            self.mlp_in,
            self.drop_path,
        ):
            layer.build(input_shape)
        self.mlp_out.build((*input_shape[:-1], self.mlp_dim))

    def call(self, x, training=False):
        # Drawn out here, so that both passes of `remat` drop the same paths.
        first, second = (self.drop_path.draw(x) if training else None for _ in range(2))
        gelu = self.gelu_in_training if training else exact_gelu

        def residual(x):
            attended = self.attention(self.attention_norm(x, training=training))
            x = x + self.drop_path.drop(attended, first)
            hidden = gelu(self.mlp_in(self.mlp_norm(x, training=training)))  # (B, T, mlp_dim)
            return x + self.drop_path.drop(self.mlp_out(hidden), second)

        return keras.remat(residual)(x) if self.remat else residual(x)

    def train_with(self, gelu, layer_norm):
        """Does what `SiTBackbone.train_with` does."""
        self.gelu_in_training = gelu
        for norm in (self.attention_norm, self.mlp_norm):
            norm.function_in_training = layer_norm

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "drop_path_rate": self.drop_path_rate,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "seed": self.seed,
        }
