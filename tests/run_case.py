"""A tiny run that several tests share, and how its folder is read."""

import csv

from sit_keras.config.presets import run_config
from sit_keras.models.backbone import SiTBackbone

TINY = run_config(
    "digits",
    model_changes=dict(
        image_size=8, patch_size=4, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=16,
        drop_path_rate=0.2, projection_dim=8,
    ),
    epochs=3, batch_size=64, steps_per_epoch=4, warmup_epochs=1, sheet_every=2, measure_every=1,
)  # fmt: skip


def rows(run_dir):
    return list(csv.DictReader((run_dir / "log.csv").open()))


def same_weights(run_dir, other):
    encoders = (SiTBackbone.from_preset(folder) for folder in (run_dir, other))
    pairs = zip(*(encoder.get_weights() for encoder in encoders), strict=True)
    return all((a == b).all() for a, b in pairs)
