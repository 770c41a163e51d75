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
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.pipeline import eval_batches, step_views
from sit_keras.evaluation.feature_plane import feature_plane
from sit_keras.evaluation.features import FrozenFeatures, select_features, unit
from sit_keras.models.attention import TOKENS, attention_maps
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import NUM_ROTATIONS
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.saved import load_network
from sit_keras.plots import charts, image_grids
from sit_keras.runs.data import RunData, shuffled
from sit_keras.runs.folder import read_settings
from sit_keras.runs.image_record import RECORD, ImageRecord, changes
from sit_keras.runs.log import read_log
from sit_keras.runs.tensorboard import BoardLog

SHOWN = 8  # images in a sheet
NEIGHBOURS = 8
# Images that are rotated, that are in the map, and among which neighbours are found.
MAX_ROTATED, MAX_MAPPED, MAX_BANK = 256, 1_000, 5_000
# More than one image, since replaced blocks come from other images of the batch.
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that was drawn.

    Args:
        path: of the PNG.
        caption: str. What it shows.
    """

    path: pathlib.Path
    caption: str


def draw_pictures(
    run: str | os.PathLike,
    dataset: str | None = None,
    data_dir: str | None = None,
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
    shown = shuffled(shown, config.seed, MAX_MAPPED)
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    pictures = [_curves(log, config, folder)]
    two_views = data.validation_views  # whose views are not those of training
    views = next(iter(step_views(shown, two_views, min(BATCH, len(shown)), 0, 1)))
    preprocessing = ImagePreprocessing.of(encoder)
    pictures.append(_corruptions(two_views, views, folder))
    if (run / "network.keras").exists():
        network = load_network(run / "network.keras")
        if "reconstruction" in config.tasks:
            pictures.append(_reconstructions(network, config, views, are_training, folder))
        if "rotation" in config.tasks:
            sample = shown.subset(MAX_ROTATED, config.seed)
            images = _images(sample, preprocessing)
            pictures.append(_rotations(network, images, are_training, folder))
    pictures += _attention(encoder, config, shown, folder)
    pictures += _features(encoder, data, shown, are_training, folder)
    board, epoch = BoardLog(run / "tensorboard" / "pictures"), int(log["epoch"][-1])
    for picture in pictures:
        board.add_picture(picture.path, picture.path.stem, epoch, picture.caption)
    return pictures


def _tell_of_other_images(run: pathlib.Path, data: RunData) -> None:
    """Prints a line if the images are not those that the run was trained on."""
    path = run / RECORD
    found = changes(ImageRecord.read(path), ImageRecord.of(data)) if path.exists() else []
    if found:
        print(
            f"The images are not those that the run was trained on: {'; '.join(found)}. Pictures "
            "of held-out images may show some that it was trained on."
        )


def _curves(log: dict[str, np.ndarray], config: RunConfig, folder) -> Picture:
    path = folder / "curves.png"
    charts.training_curves(log, path)
    caption = "The measurements after each epoch; dashed, those on the validation views."
    if config.weighting == "uncertainty":
        caption += (
            " The total loss contains log(alpha) of each task, so it can be negative; the raw "
            "losses cannot."
        )
    return Picture(path, caption)


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
    clean = tf.reshape(views["clean"], (-1, *views["clean"].shape[2:]))  # (B * 2, S, S, 3)
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
    return Picture(
        path,
        "Each corruption of a view by itself, and all of them together, as the network is given "
        "them.",
    )


def _reconstructions(network, config: RunConfig, views, are_training: bool, folder) -> Picture:
    clean, corrupted = _first_views(views["clean"]), _first_views(views["corrupted"])
    outputs = network(corrupted, training=False)
    turns = np.argmax(outputs["rotation_logits"], axis=1) if "rotation" in config.tasks else None
    path = folder / "reconstructions.png"
    image_grids.reconstruction_sheet(
        clean,
        corrupted,
        np.asarray(outputs["reconstruction"]),
        _first_views(views["rotation"]),
        turns,
        path,
        config.preprocessing,
    )
    caption = f"Corrupted views of {_kind(are_training)}, as the reconstruction head restores them."
    return Picture(path, caption)


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
        f"The rotation that the rotation head predicts for {len(images)} {_kind(are_training)}, "
        f"not corrupted, each in all four rotations (clockwise): "
        f"{np.trace(counts) / counts.sum():.0%} are correct.",
    )


def _attention(encoder: SiTBackbone, config: RunConfig, shown: ImageSet, folder) -> list[Picture]:
    images = _images(shown.subset(SHOWN, config.seed), ImagePreprocessing.of(encoder))
    maps = attention_maps(encoder, images)
    pictures = []
    for token in TOKENS:
        name = token.replace("_", " ")
        path = folder / f"attention-{token.removesuffix('_token')}.png"
        heads, flow = (np.asarray(maps[token][kind]) for kind in ("heads", "rollout"))
        image_grids.attention_sheet(images, heads, flow, path, encoder.preprocessing)
        caption = (
            f"The attention of the {name} to the patches: each head of the last block, their mean, "
            "and the rollout through all blocks. Each map is scaled by its own maximum."
        )
        pictures.append(Picture(path, caption))
    return pictures


def _features(
    encoder: SiTBackbone, data: RunData, shown: ImageSet, are_training: bool, folder
) -> list[Picture]:
    """Plots the map of features and the nearest neighbours."""
    config, features = data.config, FrozenFeatures(encoder)
    preprocessing = ImagePreprocessing.of(encoder)

    def tokens(images):
        return select_features(features.of(images), "tokens")

    mapped = shown.subset(MAX_MAPPED, config.seed)
    mapped_tokens = tokens(mapped)
    map_path = folder / "feature_map.png"
    names = mapped.class_names
    plane = feature_plane(mapped_tokens, config.seed)
    charts.feature_map(plane, mapped.labels, names, map_path)
    map_caption = (
        f"{len(mapped)} images by their two tokens, laid out by t-SNE. The classes, if there are "
        "any, were not used in training."
    )
    bank = data.train.subset(MAX_BANK, config.seed)
    bank_tokens = tokens(bank)
    queries, query_tokens = (bank, bank_tokens) if are_training else (mapped, mapped_tokens)
    chosen = np.random.default_rng(config.seed).permutation(len(queries))[:SHOWN]
    similarity = unit(query_tokens[chosen]) @ unit(bank_tokens).T
    if are_training:  # an image is not its own neighbour
        similarity[np.arange(len(chosen)), chosen] = -1
    count = min(NEIGHBOURS, len(bank) - are_training)
    nearest = np.argsort(-similarity, axis=1)[:, :count]  # (SHOWN, NEIGHBOURS)
    near_path = folder / "neighbours.png"
    labels = queries.labels[chosen], bank.labels[nearest]
    has_labels = all((each != NO_LABEL).all() for each in labels)
    neighbours = _images(bank.take(nearest.ravel()), preprocessing)
    image_grids.neighbour_sheet(
        _images(queries.take(chosen), preprocessing),
        neighbours.reshape(*nearest.shape, *neighbours.shape[1:]),
        np.take_along_axis(similarity, nearest, axis=1),
        near_path,
        *((np.array(names)[each] for each in labels) if has_labels else (None, None)),
        encoder.preprocessing,
    )
    near_caption = (
        f"{'Training' if are_training else 'Held-out'} images and their nearest neighbours among "
        f"{len(bank)} training images, by the cosine of both tokens"
        f"{'; green: the same class' if has_labels else ''}."
    )
    return [Picture(map_path, map_caption), Picture(near_path, near_caption)]


def _images(images: ImageSet, preprocessing: ImagePreprocessing) -> np.ndarray:
    """Returns images as the encoder is given them in evaluation, (N, S, S, C) normalised."""
    return np.concatenate([batch.numpy() for batch in eval_batches(images, preprocessing)])
