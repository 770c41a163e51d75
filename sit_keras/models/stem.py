"""The convolutional stem, which makes tokens of an image in place of `PatchEmbedding`.

Shapes: B batch, H W C image, p patch side, N patches, D width.
"""

import keras
from keras import ops

from sit_keras.config.network import stem_widths
from sit_keras.models.layers import LayerNormalization, PatchEmbedding, exact_gelu, uniform_init


@keras.saving.register_keras_serializable(package="sit_keras")
class ConvStem(PatchEmbedding):
    """Makes a token of each patch by 3 x 3 convolutions that halve the image, one after the other.

    After each convolution follow layer normalisation over the channels and GELU; after the last one
    a linear layer. A token sees a little more than its patch. (The paper normalises over the batch,
    which would make an image depend on the others and on the number of devices.)

    Args:
        patch_size: int. Side p of a patch in pixels, a power of two, at least 2.
        hidden_dim: int. Width D of a token. The channels double with each convolution, up to D.
        layer_norm_epsilon: float.

    Call arguments:
        images: (B, H, W, C).

    Returns:
        (B, N, D).

    Reference:
        Xiao et al. 2021, Early Convolutions Help Transformers See Better, arXiv:2106.14881.
    """

    # As those of `EncoderBlock`.
    gelu_in_training = staticmethod(exact_gelu)
    remat = False

    def __init__(
        self, patch_size: int, hidden_dim: int, layer_norm_epsilon: float = 1e-6, **kwargs
    ):
        super().__init__(patch_size, hidden_dim, **kwargs)
        self.layer_norm_epsilon = layer_norm_epsilon

    def build(self, input_shape):
        self.convolutions, self.norms = [], []
        shape = (None, None, None, input_shape[-1])
        for i, width in enumerate(stem_widths(self.patch_size, self.hidden_dim)):
            convolution = keras.layers.Conv2D(
                width,
                kernel_size=3,
                strides=2,
                padding="same",
                use_bias=False,  # the normalisation has one
                kernel_initializer=uniform_init(9 * shape[-1]),
                name=f"convolution_{i}",
                dtype=self.dtype_policy,
            )
            convolution.build(shape)
            shape = (None, None, None, width)
            norm = LayerNormalization(
                epsilon=self.layer_norm_epsilon, name=f"norm_{i}", dtype=self.dtype_policy
            )
            norm.build(shape)
            self.convolutions.append(convolution)
            self.norms.append(norm)
        self.projection = keras.layers.Dense(
            self.hidden_dim,
            kernel_initializer=uniform_init(self.hidden_dim),
            bias_initializer=uniform_init(self.hidden_dim),
            name="projection",
            dtype=self.dtype_policy,
        )
        self.projection.build((None, None, self.hidden_dim))

    def call(self, images, training=False):
        gelu = self.gelu_in_training if training else exact_gelu

        def embed(x):
            for convolution, norm in zip(self.convolutions, self.norms, strict=True):
                x = gelu(norm(convolution(x), training=training))
            _, rows, columns, width = x.shape
            return self.projection(ops.reshape(x, (-1, rows * columns, width)))

        return keras.remat(embed)(images) if self.remat else embed(images)

    def train_with(self, gelu, layer_norm):
        """Does what `SiTBackbone.train_with` does."""
        self.gelu_in_training = gelu
        for norm in self.norms:
            norm.function_in_training = layer_norm

    def get_config(self):
        return {
            **super().get_config(),
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }
