"""All pictures of one run, from its folder and its images.

Shapes: N images, S side, B batch.
"""

import dataclasses
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from sit_keras.augment import operations
from sit_keras.config.settings import CorruptionConfig, RunConfig
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.pipeline import eval_batches, step_views
from sit_keras.data.views import TwoViews
from sit_keras.evaluation.features import FrozenFeatures, select_features, unit
from sit_keras.models.attention import TOKENS, attention_maps
from sit_keras.models.backbone import SiTEncoder
from sit_keras.models.heads import NUM_ROTATIONS
from sit_keras.models.loading import load_encoder
from sit_keras.plots import charts, image_grids
from sit_keras.runs.data import RunData
from sit_keras.runs.folder import read_settings
from sit_keras.runs.log import read_log
from sit_keras.runs.tensorboard import PictureLog

SHOWN = 8  # images in a sheet
NEIGHBOURS = 8
MAX_TURNED, MAX_MAPPED, MAX_BANK = 256, 1_000, 5_000
# Donors of replaced blocks are other images of the batch.
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that was drawn.

    Args:
        path: of the PNG.
        caption: what there is to see.
    """

    path: pathlib.Path
    caption: str


def draw_pictures(
    run: str | os.PathLike,
    dataset: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
) -> list[Picture]:
    """Draws whatever can be seen of a run into its folder `pictures`, and for TensorBoard.

    Args:
        run: a run folder of train.py, finished or not.
        dataset: str or None. Where the images lie now, if not where they lay in training.
        data_dir, download: as for `sit_keras.data.load_source`.

    Returns:
        The pictures, in the order of the report.

    Raises:
        ValueError: if there is no run, or its images are not there.
    """
    run = pathlib.Path(run)
    if not (run / "config.json").exists():
        raise ValueError(f"No run at {run}: expected a folder of train.py, with a config.json.")
    config, encoder, log = read_settings(run), load_encoder(run), read_log(run / "log.csv")
    config = dataclasses.replace(config, dataset=dataset or config.dataset)
    data = RunData.load(config, data_dir, download)
    shown = data.held_out if len(data.held_out) >= SHOWN else data.train
    seen = shown is data.train
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    pictures = [_curves(log, config, folder)]
    # Views that the training did not draw.
    two_views = dataclasses.replace(data.two_views, seed=config.seed + 1)
    views = next(iter(step_views(shown, two_views, min(BATCH, len(shown)), 0, 1)))
    pictures.append(_corruptions(two_views, views, folder))
    if (run / "network.keras").exists():
        network = keras.saving.load_model(run / "network.keras", compile=False)
        if "reconstruction" in config.tasks:
            pictures.append(_reconstructions(network, config, views, seen, folder))
        if "rotation" in config.tasks:
            pictures.append(_rotations(network, config, shown, seen, folder))
    pictures += _attention(encoder, config, shown, folder)
    pictures += _features(encoder, data, shown, folder)
    board, epoch = PictureLog(run / "tensorboard" / "pictures"), int(log["epoch"][-1])
    for picture in pictures:
        board.add(picture.path, picture.path.stem, epoch, picture.caption)
    return pictures


def _curves(log: dict[str, np.ndarray], config: RunConfig, folder) -> Picture:
    path = folder / "curves.png"
    charts.training_curves(log, path)
    caption = "What was measured after each epoch; dashed, on the validation views."
    if config.weighting == "uncertainty":
        caption += (
            " The total loss adds log(alpha) of each task, so it may be negative: watch the raw "
            "losses."
        )
    return Picture(path, caption)


def _of_images(seen: bool) -> str:
    """How captions call the images, of which too few may have been held out."""
    return "training images (too few were held out)" if seen else "held-out images"


def _first_views(values):
    """The first view of each of the first images of a batch."""
    return np.asarray(values[:SHOWN, 0])


def _corruptions(two_views: TwoViews, views, folder) -> Picture:
    asked = two_views.corruption
    nothing = CorruptionConfig(grey=False, blur=False, drop=0.0, replace=0.0)
    clean = tf.reshape(views["clean"], (-1, *views["clean"].shape[2:]))  # (B * 2, S, S, 3)
    stages = {"clean": _first_views(views["clean"])}
    for name in ("grey", "blur", "colour", "drop", "replace"):
        strength = getattr(asked, name)
        if strength:
            alone = dataclasses.replace(nothing, **{name: strength})
            spoilt = dataclasses.replace(two_views, corruption=alone).corrupt(clean, tf.constant(0))
            stages[name] = _first_views(tf.reshape(spoilt, tf.shape(views["clean"])))
    stages["all"] = _first_views(views["corrupted"])
    path = folder / "corruptions.png"
    image_grids.corruption_gallery(stages, path)
    return Picture(
        path,
        "Each way to spoil a view by itself, and all of them, which is what the network sees.",
    )


def _reconstructions(network, config: RunConfig, views, seen: bool, folder) -> Picture:
    clean, corrupted = _first_views(views["clean"]), _first_views(views["corrupted"])
    outputs = network(corrupted, training=False)
    turns = np.argmax(outputs["rotation"], axis=1) if "rotation" in config.tasks else None
    path = folder / "reconstructions.png"
    image_grids.reconstruction_sheet(
        clean,
        corrupted,
        np.asarray(outputs["reconstruction"]),
        _first_views(views["rotation"]),
        turns,
        path,
    )
    caption = f"What the reconstruction head makes of spoilt views of {_of_images(seen)}."
    return Picture(path, caption)


def _rotations(network, config: RunConfig, shown: ImageSet, seen: bool, folder) -> Picture:
    images = _images(shown.subset(MAX_TURNED, config.seed), config)
    counts = np.zeros((NUM_ROTATIONS, NUM_ROTATIONS), int)
    for turns in range(NUM_ROTATIONS):
        for batch in np.array_split(images, -(-len(images) // BATCH)):
            turned = operations.rotate(batch, np.full(len(batch), turns))
            said = np.argmax(network(turned, training=False)["rotation"], axis=1)
            counts[turns] += np.bincount(said, minlength=NUM_ROTATIONS)
    path = folder / "rotations.png"
    names = [f"{90 * turns}°" for turns in range(NUM_ROTATIONS)]
    charts.confusion_sheet(counts, names, path)
    return Picture(
        path,
        f"Which way up the rotation head takes {len(images)} {_of_images(seen)} to be, not spoilt, "
        f"each turned four ways (clockwise); {np.trace(counts) / counts.sum():.0%} are right.",
    )


def _attention(encoder: SiTEncoder, config: RunConfig, shown: ImageSet, folder) -> list[Picture]:
    images = _images(shown.subset(SHOWN, config.seed), config)
    maps = attention_maps(encoder, images)
    pictures = []
    for token in TOKENS:
        path = folder / f"attention-{token}.png"
        heads, flow = (np.asarray(maps[token][name]) for name in ("heads", "rollout"))
        image_grids.attention_sheet(images, heads, flow, path)
        caption = (
            f"Where the {token} token looks: each head of the last block, their mean, and the "
            "rollout through all blocks. Each map to its own maximum."
        )
        pictures.append(Picture(path, caption))
    return pictures


def _features(encoder: SiTEncoder, data: RunData, shown: ImageSet, folder) -> list[Picture]:
    """The map of features and the nearest neighbours."""
    config, features = data.config, FrozenFeatures(encoder)

    def tokens(images):
        return select_features(features.of(images, config.views.eval_crop), "tokens")

    mapped = shown.subset(MAX_MAPPED, config.seed)
    mapped_tokens = tokens(mapped)
    map_path = folder / "feature_map.png"
    names = mapped.class_names
    charts.feature_map(mapped_tokens, mapped.labels, names, map_path, config.seed)
    map_caption = (
        f"{len(mapped)} images by their two tokens, laid out by t-SNE; the classes, where there "
        "are any, were not seen in training."
    )
    bank = data.train.subset(MAX_BANK, config.seed)
    bank_tokens = tokens(bank)
    own = shown is data.train  # no image is held out: each leaves itself aside
    asked, asked_tokens = (bank, bank_tokens) if own else (mapped, mapped_tokens)
    chosen = np.random.default_rng(config.seed).permutation(len(asked))[:SHOWN]
    similarity = unit(asked_tokens[chosen]) @ unit(bank_tokens).T
    if own:
        similarity[np.arange(len(chosen)), chosen] = -1
    count = min(NEIGHBOURS, len(bank) - own)
    nearest = np.argsort(-similarity, axis=1)[:, :count]  # (SHOWN, NEIGHBOURS)
    near_path = folder / "neighbours.png"
    labels = asked.labels[chosen], bank.labels[nearest]
    has_labels = all((each != NO_LABEL).all() for each in labels)
    neighbours = _images(bank.take(nearest.ravel()), config)
    image_grids.neighbour_sheet(
        _images(asked.take(chosen), config),
        neighbours.reshape(*nearest.shape, *neighbours.shape[1:]),
        np.take_along_axis(similarity, nearest, axis=1),
        near_path,
        *(np.array(names)[each] for each in labels if has_labels),
    )
    near_caption = (
        f"{'Training' if own else 'Held-out'} images and their nearest of {len(bank)} training "
        f"images by the cosine of both tokens{'; green: the same class' if has_labels else ''}."
    )
    return [Picture(map_path, map_caption), Picture(near_path, near_caption)]


def _images(images: ImageSet, config: RunConfig) -> np.ndarray:
    """The images as evaluation shows them to the encoder, (N, S, S, 3) normalised."""
    size, crop = config.model.square_size, config.views.eval_crop
    return np.concatenate([batch.numpy() for batch in eval_batches(images, size, crop)])
