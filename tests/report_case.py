"""A run's folder and images made by hand, for the tests of the page about it."""

import numpy as np

from sit_keras.config.presets import run_config
from sit_keras.evaluation.image_map import image_map
from sit_keras.plots.tiles import Tile, attention_strips, patch_strips
from sit_keras.runs.folder import write_settings
from sit_keras.workflows.explored import Explored
from sit_keras.workflows.picture import Picture


def made_run(folder):
    """Writes the settings and the log of three epochs, and returns the folder."""
    folder.mkdir(exist_ok=True)
    write_settings(folder, run_config("digits"))
    lines = ["epoch,loss,val_loss,rotation,rotation_accuracy,val_rotation_accuracy"]
    lines += [f"{i},{3 - i},{3.1 - i},1.3,0.{3 + i},0.{2 + i}" for i in range(3)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return folder


def explored(count=24, names=("cat", "dog"), channels=3):
    """Images of flat colours in as many far groups as there are names, all labelled right but one.

    Without names none has a label.
    """
    random = np.random.default_rng(0)
    groups = np.arange(count) % 2
    features = random.normal(size=(count, 6)) + 20 * np.eye(6)[groups]
    labels = groups.copy() if names else np.full(count, -1)
    if names:
        labels[0] = 1  # contradicted by its neighbours
    pixels = np.zeros((count, 16, 12, channels), "float32") + groups[:, None, None, None]
    doubts = [Tile(pixels[0], "cats/1.jpg: labelled dog")] if names else []
    found = image_map(features.astype("float32"), labels)
    seen = np.arange(count) >= count // 3
    return Explored(
        pixels, labels, names, seen, found, doubts, len(doubts), int(bool(names)) * count
    )


def pictures(folder, channels=3):
    """A gallery of each kind, and the picture of the map."""
    pixels = np.full((2, 32, 32, channels), 0.5, "float32")
    heads = np.arange(2 * 3 * 16.0).reshape(2, 3, 4, 4)
    colours = np.linspace(0, 1, 2 * 16 * 3, dtype="float32").reshape(2, 4, 4, 3)
    attention = attention_strips(pixels, heads, heads[:, 0])
    return [
        Picture(folder / "curves.png", "How the training went", "After each epoch.", "It falls."),
        Picture(folder / "attention-rotation.png", "Where it looks", "Attention.", "Bright.",
                tuple(attention)),
        Picture(folder / "patches.png", "Which patches are alike", "Components.", "One colour.",
                tuple(patch_strips(pixels, colours))),
        Picture(folder / "feature_map.png", "A map of the images", "Images as points.", "Groups."),
    ]  # fmt: skip
