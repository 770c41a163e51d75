"""The functional encoder, the encoder with its pretext heads, and position resizing.

Shapes: B batch, H W C image, N patches, P prefix tokens, D width.
"""

import keras

from sit_keras.config.network import NUM_CHANNELS, SiTConfig
from sit_keras.config.serialization import from_dict, to_dict
from sit_keras.models.heads import ReconstructionHead, projection_head, rotation_head
from sit_keras.models.layers import EncoderBlock, PatchEmbedding, PrefixTokens, Seed


@keras.saving.register_keras_serializable(package="sit_keras")
class SiTEncoder(keras.Model):
    """The Vision Transformer of SiT as a functional model.

    Args:
        config: SiTConfig.
        seed: int, None or a `keras.random.SeedGenerator`. Of the drop-path noise.

    Input:
        images: (B, H, W, C) float, normalised by `sit_keras.data.normalize`.

    Output:
        A dict: `rotation` (B, D), `contrastive` (B, D), `patches` (B, N, D), all after the final
        LayerNorm.

    Reference:
        Atito et al. 2021, SiT: Self-supervised vIsion Transformer, arXiv:2104.03602.
    """

    def __init__(self, config: SiTConfig, seed: Seed = None, **kwargs):
        # === Layers ===
        rates = [
            config.drop_path_rate * i / max(1, config.num_layers - 1)
            for i in range(config.num_layers)
        ]
        patch_embedding = PatchEmbedding(
            config.patch_size, config.hidden_dim, name="patch_embedding"
        )
        prefix_tokens = PrefixTokens(name="prefix_tokens")
        blocks = [
            EncoderBlock(
                config.num_heads,
                config.mlp_dim,
                drop_path_rate=rate,
                layer_norm_epsilon=config.layer_norm_epsilon,
                seed=seed,
                name=f"block_{i}",
            )
            for i, rate in enumerate(rates)
        ]
        norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name="norm")

        # === Functional graph ===
        images = keras.Input((*config.input_size, NUM_CHANNELS), name="images")
        x = prefix_tokens(patch_embedding(images))  # (B, P + N, D)
        for block in blocks:
            x = block(x)
        x = norm(x)
        outputs = {
            "rotation": x[:, 0],
            "contrastive": x[:, 1],
            "patches": x[:, config.num_prefix_tokens :],
        }
        super().__init__(images, outputs, **kwargs)

        # === Config ===
        self.config = config

    def get_config(self):
        return {"name": self.name, "config": to_dict(self.config)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        values = {**config, "config": from_dict(SiTConfig, config["config"])}
        return cls(**values)


def build_encoder(config: SiTConfig, seed: Seed = None) -> SiTEncoder:
    """Returns an untrained encoder.

    Args:
        config: SiTConfig, for example `sit_keras.presets()["native32"]`.
        seed: as for `SiTEncoder`.
    """
    return SiTEncoder(config, seed, name="sit_encoder")


def build_ssl_model(config: SiTConfig, seed: Seed = None) -> keras.Model:
    """Returns the encoder with its three pretext heads.

    Args:
        config: SiTConfig.
        seed: as for `SiTEncoder`.

    Returns:
        A functional model from images (B, H, W, C) to a dict: `rotation` (B, 4) logits,
        `contrastive` (B, projection_dim), `reconstruction` (B, H, W, C). Its encoder is the layer
        `sit_encoder`.
    """
    encoder = build_encoder(config, seed)
    images = keras.Input((*config.input_size, NUM_CHANNELS), name="images")
    tokens = encoder(images)
    reconstruction_head = ReconstructionHead(
        config.grid, config.patch_size, NUM_CHANNELS, dtype="float32", name="reconstruction"
    )
    outputs = {
        "rotation": rotation_head()(tokens["rotation"]),
        "contrastive": projection_head(config.projection_dim)(tokens["contrastive"]),
        "reconstruction": reconstruction_head(tokens["patches"]),
    }
    return keras.Model(images, outputs, name="sit")
