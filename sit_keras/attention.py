"""Where an encoder looks: the attention of its blocks, and its rollout through them.

Shapes: B batch, H W C image, L blocks, A attention heads, P prefix tokens, N patches, T = P + N.
"""

from keras import ops

from sit_keras.backbone import SiTEncoder

TOKENS = ("rotation", "contrastive")


def attention(encoder: SiTEncoder, images):
    """Returns the attention of every token to every other, in each block and head.

    Args:
        encoder: SiTEncoder.
        images: (B, H, W, C) float32, normalised.

    Returns:
        (B, L, A, T, T) float32, whose rows sum to 1.
    """
    x = encoder.get_layer("prefix_tokens")(encoder.get_layer("patch_embedding")(images))
    found = []
    for i in range(encoder.config.num_layers):
        block = encoder.get_layer(f"block_{i}")
        weights, _ = block.attention.weights_and_values(block.attention_norm(x))
        found.append(ops.cast(weights, "float32"))
        x = block(x, training=False)
    return ops.stack(found, axis=1)


def rollout(weights):
    """Follows the attention through all blocks, half of each being the residual connection.

    Args:
        weights: (B, L, A, T, T), as of `attention`.

    Returns:
        (B, T, T) float32, whose rows sum to 1.

    Reference:
        Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers, section 3.
    """
    heads = ops.mean(weights, axis=2)  # (B, L, T, T)
    heads = 0.5 * heads + 0.5 * ops.eye(heads.shape[-1])
    flow = heads[:, 0]
    for i in range(1, heads.shape[1]):
        flow = ops.matmul(heads[:, i], flow)
    return flow


def attention_maps(encoder: SiTEncoder, images) -> dict:
    """Returns what each prefix token attends to among the patches.

    Args:
        encoder: SiTEncoder.
        images: (B, H, W, C) float32, normalised.

    Returns:
        For `rotation` and `contrastive` each a dict: `heads` (B, A, rows, columns) of the last
        block, and `rollout` (B, rows, columns).
    """
    weights = attention(encoder, images)
    flow = rollout(weights)
    rows, columns = encoder.config.grid
    first = encoder.config.num_prefix_tokens
    return {
        token: {
            "heads": ops.reshape(
                weights[:, -1, :, place, first:], (-1, weights.shape[2], rows, columns)
            ),
            "rollout": ops.reshape(flow[:, place, first:], (-1, rows, columns)),
        }
        for place, token in enumerate(TOKENS)
    }
