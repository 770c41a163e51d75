"""Plots all pictures of one run, from its folder and its images.

Shapes: N images, S side, C channels, B batch.
"""

import dataclasses
import os
import pathlib

import numpy as np
import tensorflow as tf

from sit_keras.augment import operations
from sit_keras.augment.pretext import TwoViews
from sit_keras.config.settings import CorruptionConfig, RunConfig
from sit_keras.data.pipeline import step_views
from sit_keras.evaluation.features import FrozenFeatures
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import NUM_ROTATIONS
from sit_keras.models.saved import load_network
from sit_keras.plots import charts, curves, image_grids, tiles
from sit_keras.runs.chance import chance_levels
from sit_keras.runs.data import RunData, shuffled
from sit_keras.runs.folder import read_settings
from sit_keras.runs.image_record import RECORD, ImageRecord, changes
from sit_keras.runs.log import read_log
from sit_keras.runs.results import finished_results
from sit_keras.runs.tensorboard import BoardLog
from sit_keras.workflows.encoder_pictures import (
    SHOWN,
    attention_pictures,
    map_picture,
    neighbour_picture,
    prepared,
)
from sit_keras.workflows.explored import Explored, explore
from sit_keras.workflows.picture import Picture

# Images that are rotated, and from which those of the sheets are taken.
MAX_ROTATED, MAX_SHOWN = 256, 1_000
# More than one image, since replaced blocks come from other images of the batch.
BATCH = 32


def draw_pictures(
    run: str | os.PathLike,
    dataset: str | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> list[Picture]:
    """Plots all pictures of a run into its folder `pictures`, and for TensorBoard.

    Args:
        run: a run folder, of a finished run or not.
        dataset: str or None. Where the images are now, if they were somewhere else in training.
        data_dir, download: as for `sit_keras.data.load_source`.

    Returns:
        The pictures, in the order of the report.

    Raises:
        ValueError: if there is no run, or its images do not exist.
    """
    return look_at(run, dataset, data_dir, download)[0]


def look_at(
    run: str | os.PathLike,
    dataset: str | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> tuple[list[Picture], Explored]:
    """Plots all pictures of a run, and returns its images for an interactive map beside them.

    Args and errors are those of `draw_pictures`.
    """
    run = pathlib.Path(run)
    if not (run / "config.json").exists():
        raise ValueError(f"No run at {run}: expected a run folder, with a config.json.")
    config, log = read_settings(run), read_log(run / "log.csv")
    encoder = SiTBackbone.from_preset(run)
    config = dataclasses.replace(config, dataset=dataset or config.dataset)
    data = RunData.load(config, data_dir, download)
    _tell_of_other_images(run, data)
    are_training = len(data.held_out) < SHOWN
    shown = data.train if are_training else data.held_out
    shown = shuffled(shown, config.seed, MAX_SHOWN)
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    pictures = [_curves(log, config, finished_results(run) or {}, folder)]
    two_views = data.validation_views  # whose views are not those of training
    views = next(iter(step_views(shown, two_views, min(BATCH, len(shown)), 0, 1)))
    pictures.append(_corruptions(two_views, views, folder))
    if (run / "network.keras").exists():
        network = load_network(run / "network.keras")
        if "reconstruction" in config.tasks:
            pictures.append(_reconstructions(network, config, views, are_training, folder))
        if "rotation" in config.tasks:
            images = prepared(shown.subset(MAX_ROTATED, config.seed), encoder)
            pictures.append(_rotations(network, images, are_training, folder))
    pictures += attention_pictures(encoder, shown.subset(SHOWN, config.seed), folder)
    features = FrozenFeatures(encoder)
    explored = explore(features, data)
    pictures.append(map_picture(explored, folder))
    pictures.append(neighbour_picture(features, data, shown, are_training, folder))
    board, epoch = BoardLog(run / "tensorboard" / "pictures"), int(log["epoch"][-1])
    for picture in pictures:
        board.add_picture(picture.path, picture.path.stem, epoch, picture.caption)
    return pictures, explored


def _tell_of_other_images(run: pathlib.Path, data: RunData) -> None:
    """Prints a line if the images are not those that the run was trained on."""
    path = run / RECORD
    found = changes(ImageRecord.read(path), ImageRecord.of(data)) if path.exists() else []
    if found:
        print(
            f"The images are not those that the run was trained on: {'; '.join(found)}. Pictures "
            "of held-out images may show some that it was trained on."
        )


def _curves(log: dict[str, np.ndarray], config: RunConfig, results: dict, folder) -> Picture:
    path = folder / "curves.png"
    curves.training_curves(log, path, chance_levels(config, results))
    caption = (
        "The measurements after each epoch. Dashed: on views of held-out images; dotted: what "
        "guessing gives."
    )
    if config.weighting == "uncertainty":
        caption += (
            " The total loss contains log(alpha) of each task, so it can be negative; the raw "
            "losses cannot."
        )
    good = "Losses fall and accuracies rise, away from the dotted lines, and dashed lines follow."
    return Picture(path, "How the training went", caption, good)


def _kind(are_training: bool) -> str:
    """Returns what captions call the images."""
    return "training images (too few were held out)" if are_training else "held-out images"


def _first_views(values):
    """Returns the first view of each of the first images of a batch."""
    return np.asarray(values[:SHOWN, 0])


def _corruptions(two_views: TwoViews, views, folder) -> Picture:
    none = CorruptionConfig(
        grey=False, blur=False, drop=0.0, replace=0.0, align=two_views.corruption.align
    )
    clean = tf.reshape(views["clean"], (-1, *views["clean"].shape[2:]))  # (B * 2, S, S, C)
    stages = {"clean": _first_views(views["clean"])}
    for name in ("grey", "blur", "colour", "drop", "replace"):
        strength = getattr(two_views.corruption, name)
        if strength:
            alone = dataclasses.replace(none, **{name: strength})
            positions = tf.range(views["clean"].shape[0])
            corrupted = dataclasses.replace(two_views, corruption=alone).corrupt(
                clean, 0, positions
            )
            stages[name] = _first_views(tf.reshape(corrupted, tf.shape(views["clean"])))
    stages["all"] = _first_views(views["corrupted"])
    path = folder / "corruptions.png"
    image_grids.corruption_gallery(stages, path, two_views.preprocessing)
    pixels = {name: image_grids.to_pixels(images, two_views.preprocessing)
              for name, images in stages.items()}  # fmt: skip
    return Picture(
        path,
        "What the network is given",
        "Each corruption of a view by itself, and all of them together, as the network is given "
        "them.",
        "With all corruptions together one can still tell what is in the picture.",
        tuple(tiles.corruption_strips(pixels)),
    )


def _reconstructions(network, config: RunConfig, views, are_training: bool, folder) -> Picture:
    clean, corrupted = _first_views(views["clean"]), _first_views(views["corrupted"])
    outputs = network(corrupted, training=False)
    turns = np.argmax(outputs["rotation_logits"], axis=1) if "rotation" in config.tasks else None
    path = folder / "reconstructions.png"
    views_of = clean, corrupted, np.asarray(outputs["reconstruction"])
    truth, how = _first_views(views["rotation"]), config.preprocessing
    image_grids.reconstruction_sheet(*views_of, truth, turns, path, how)
    caption = f"Corrupted views of {_kind(are_training)}, as the reconstruction head restores them."
    if turns is not None:
        caption += " Green and red: whether the rotation head told the angle of the corrupted view."
    good = "The shapes that were blurred or cut out are back. Early in a training all is noise."
    original, given, restored = (image_grids.to_pixels(each, how) for each in views_of)
    strips = tiles.reconstruction_strips(original, given, restored, truth, turns)
    return Picture(path, "What it restores", caption, good, tuple(strips))


def _rotations(network, images: np.ndarray, are_training: bool, folder) -> Picture:
    counts = np.zeros((NUM_ROTATIONS, NUM_ROTATIONS), int)
    for turns in range(NUM_ROTATIONS):
        for batch in np.array_split(images, -(-len(images) // BATCH)):
            rotated = operations.rotate(batch, np.full(len(batch), turns))
            logits = network(rotated, training=False)["rotation_logits"]
            counts[turns] += np.bincount(np.argmax(logits, axis=1), minlength=NUM_ROTATIONS)
    path = folder / "rotations.png"
    names = [f"{90 * turns}°" for turns in range(NUM_ROTATIONS)]
    charts.confusion_sheet(counts, names, path)
    return Picture(
        path,
        "Which way up",
        f"The rotation that the rotation head predicts for {len(images)} {_kind(are_training)}, "
        f"not corrupted, each in all four rotations (clockwise): "
        f"{np.trace(counts) / counts.sum():.0%} are correct, 25% by chance.",
        "The diagonal is dark. Images without an up and a down, such as textures, cannot be told.",
    )
