"""Where an encoder looks: the attention of its blocks, and its rollout through them.

Shapes: B batch, H W C image, A attention heads, P prefix tokens, N patches, T = P + N.
"""

import typing

from keras import ops

from sit_keras.models.backbone import SiTBackbone

TOKENS = ("rotation_token", "contrastive_token")


def attention(encoder: SiTBackbone, images) -> typing.Iterator:
    """Yields the attention of every token to every other, block by block.

    Args:
        encoder: SiTBackbone.
        images: (B, H, W, C) float32, normalised.

    Yields:
        For each block (B, A, T, T) float32, whose rows sum to 1.
    """
    x = encoder.get_layer("prefix_tokens")(encoder.get_layer("patch_embedding")(images))
    for i in range(encoder.num_layers):
        block = encoder.get_layer(f"block_{i}")
        weights, _ = block.attention.weights_and_values(block.attention_norm(x))
        yield ops.cast(weights, "float32")
        x = block(x, training=False)


def follow(weights, flow=None):
    """Takes the rollout of attention through one more block, half of which is its residual.

    Args:
        weights: (B, A, T, T) float32, the attention of the block.
        flow: (B, T, T) float32, the rollout up to it, or None before the first.

    Returns:
        (B, T, T) float32, whose rows sum to 1.

    Reference:
        Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers, section 3.
    """
    mixed = 0.5 * ops.mean(weights, axis=1) + 0.5 * ops.eye(weights.shape[-1])
    return mixed if flow is None else ops.matmul(mixed, flow)


def attention_maps(encoder: SiTBackbone, images: typing.Any) -> dict[str, dict[str, typing.Any]]:
    """Returns what each prefix token attends to among the patches.

    Args:
        encoder: SiTBackbone.
        images: (B, H, W, C) float32, normalised.

    Returns:
        For `rotation_token` and `contrastive_token` each a dict: `heads` (B, A, rows, columns) of
        the last block, and `rollout` (B, rows, columns).
    """
    flow: typing.Any = None
    for weights in attention(encoder, images):
        flow = follow(weights, flow)
    rows, columns = encoder.grid
    first, num_heads = encoder.num_prefix_tokens, encoder.num_heads
    return {
        token: {
            "heads": ops.reshape(weights[:, :, place, first:], (-1, num_heads, rows, columns)),
            "rollout": ops.reshape(flow[:, place, first:], (-1, rows, columns)),
        }
        for place, token in enumerate(TOKENS)
    }
