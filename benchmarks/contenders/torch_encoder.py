"""The encoder of SiT in PyTorch for inference, from the weights of a `SiTBackbone`.

Shapes: B images, S side, p patch side, N patches, T = 2 + N tokens, D width, A heads.
"""

import torch
from torch.nn import functional

from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import IMAGENET_MEAN, IMAGENET_STD


class Encoder:
    """Computes the two tokens of images, with PyTorch's own attention.

    Args:
        network: NetworkConfig.
        weights: arrays in the order of `SiTBackbone.get_weights`.

    Call arguments:
        images: (B, S, S, 3) uint8.

    Returns:
        The rotation and the contrastive token, (B, D) float32 each.
    """

    def __init__(self, network: NetworkConfig, weights):
        self.network = network
        # A kernel (D, E) of Keras is a weight (E, D) of PyTorch.
        self.weights = [torch.from_numpy(x.T.copy() if x.ndim == 2 else x.copy()) for x in weights]
        self.mean, self.std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)

    @torch.inference_mode()
    def __call__(self, images):
        size, patch = self.network.image_size, self.network.patch_size
        weights = iter(self.weights)

        def take(count):
            return [next(weights) for _ in range(count)]

        x = (images.float() / 255 - self.mean) / self.std
        x = x.reshape(len(x), size // patch, patch, size // patch, patch, 3)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(len(x), -1, patch * patch * 3)
        x = functional.linear(x, *take(2))
        *tokens, positions = take(3)
        x = torch.cat([token.expand(len(x), -1, -1) for token in tokens] + [x], 1) + positions
        for _ in range(self.network.num_layers):
            x = x + self._attention(self._norm(x, *take(2)), *take(4))
            x = x + self._mlp(self._norm(x, *take(2)), *take(4))
        x = self._norm(x, *take(2))
        return x[:, 0], x[:, 1]

    def _norm(self, x, gamma, beta):
        return functional.layer_norm(x, gamma.shape, gamma, beta, self.network.layer_norm_epsilon)

    def _attention(self, x, kernel, bias, out_kernel, out_bias):
        images, tokens, width = x.shape
        shape = images, tokens, 3, self.network.num_heads, -1
        qkv = functional.linear(x, kernel, bias).reshape(shape).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(*qkv)  # (B, A, T, D/A)
        x = x.transpose(1, 2).reshape(images, tokens, width)
        return functional.linear(x, out_kernel, out_bias)

    def _mlp(self, x, kernel, bias, out_kernel, out_bias):
        x = functional.gelu(functional.linear(x, kernel, bias))
        return functional.linear(x, out_kernel, out_bias)
