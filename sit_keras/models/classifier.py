"""A classifier on the two tokens of an encoder."""

import keras

from sit_keras.config.network import NUM_CHANNELS
from sit_keras.models.backbone import SiTEncoder
from sit_keras.models.heads import ClassifierHead


def build_classifier(
    encoder: SiTEncoder,
    num_classes: int,
    hidden_dim: int | None = None,
    class_names: tuple[str, ...] | None = None,
) -> keras.Model:
    """Returns an encoder with a head that averages the logits of its two tokens.

    Args:
        encoder: SiTEncoder. Shared, not copied.
        num_classes: int. K.
        hidden_dim, class_names: as for `ClassifierHead`.

    Returns:
        A functional model from images (B, H, W, C) to logits (B, K) float32. Its layers are
        `sit_encoder` and `classifier`.
    """
    images = keras.Input((*encoder.config.input_size, NUM_CHANNELS), name="images")
    head = ClassifierHead(num_classes, hidden_dim, class_names, name="classifier")
    logits = head(encoder(images))
    return keras.Model(images, logits, name="sit_classifier")
