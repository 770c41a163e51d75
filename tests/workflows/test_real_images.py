"""A few dozen steps on real images of each source: the losses that fall early do so."""

import csv

import pytest

from sit_keras.config.presets import run_config
from sit_keras.data.sources import load_source
from sit_keras.workflows.evaluate import evaluate
from sit_keras.workflows.pretrain import pretrain

SMALL = dict(hidden_dim=48, num_layers=3, num_heads=3, mlp_dim=96, projection_dim=32)
CASES = {
    "cifar100": ("native32", {"patch_size": 4}, "tfds"),
    "stl10": ("native96", {"patch_size": 12}, "tfds"),
    "tiny_imagenet": ("native64", {"patch_size": 8}, None),
    "folder": ("native64", {"patch_size": 8}, None),
}


@pytest.mark.endurance
@pytest.mark.parametrize("name", CASES)
def test_the_losses_fall_and_the_encoder_is_better_than_chance(name, real_images, tmp_path):
    preset, changes, folder = CASES[name]
    data_dir = real_images / folder if folder else tmp_path
    dataset = name
    if name == "tiny_imagenet":
        (tmp_path / "tiny-imagenet-200").symlink_to(real_images / "tiny-imagenet-200")
    if name == "folder":
        dataset = f"folder:{real_images / 'photos'}"
    config = run_config(
        preset, model_changes={**SMALL, **changes, "drop_path_rate": 0.0}, dataset=dataset,
        epochs=4, steps_per_epoch=16, batch_size=24, warmup_epochs=1, learning_rate=0.03,
        sheet_every=4, holdout=0.1,
    )  # fmt: skip
    results = pretrain(config, tmp_path / "run", data_dir=data_dir)
    log = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    for loss in ("loss", "val_loss", "reconstruction", "val_reconstruction"):
        first, last = float(log[0][loss]), float(log[-1][loss])
        assert last < 0.97 * first, (loss, first, last)
    early, late = (sum(float(row["contrastive"]) for row in part) for part in (log[:2], log[-2:]))
    assert late < early
    # The rotation loss takes longer to fall; here it only must not diverge.
    assert float(log[-1]["rotation"]) < 1.45
    assert results["linear_accuracy"]["trained"] > 1 / results["num_classes"]
    assert (tmp_path / "run" / "sheets" / "epoch_0004.png").exists()
    if name == "stl10":  # most of its images have no label
        evaluated = evaluate(tmp_path / "run", data_dir=data_dir, protocol=["linear", "knn"], k=[5])
        assert evaluated["train_images"] == len(load_source("stl10", data_dir).train.labelled()) > 0
        assert (
            min(evaluated["linear"]["accuracy"], evaluated["knn"]["5"])
            > 1 / evaluated["num_classes"]
        )
    if name == "cifar100":
        evaluated = evaluate(tmp_path / "run", "cifar10", ["linear"], data_dir=data_dir)
        assert (evaluated["pretrained_on"], evaluated["num_classes"]) == ("cifar100", 10)
        assert evaluated["linear"]["accuracy"] > 0.1
