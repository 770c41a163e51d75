"""The small encoder of the tests in this folder."""

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.models.backbone import SiTBackbone


def small_encoder(**changes):
    """Returns an encoder of the 8 x 8 digits that is given all of each image."""
    arguments = dict(
        image_shape=(8, 8, 3), patch_size=4, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=24,
        drop_path_rate=0.5, preprocessing=PreprocessingConfig(crop=1.0),
    )  # fmt: skip
    return SiTBackbone(**{**arguments, **changes})
