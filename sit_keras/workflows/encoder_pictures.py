"""Pictures of an encoder: its attention, its patches, a map of images, and nearest neighbours.

Shapes: N images, S side, C channels.
"""

import pathlib

import numpy as np

from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.evaluation.features import FrozenFeatures, select_features, unit
from sit_keras.evaluation.patch_colours import patch_colours
from sit_keras.models.attention import TOKENS, attention_maps
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.plots import charts, image_grids, tiles
from sit_keras.runs.data import RunData
from sit_keras.workflows.explored import LARGE, Explored, pixels_of
from sit_keras.workflows.picture import Picture

SHOWN = 8  # images in a sheet
NEIGHBOURS = 8
MAX_BANK = 5_000  # images among which neighbours are found


def prepared(images: ImageSet, encoder: SiTBackbone) -> np.ndarray:
    """Returns images as the encoder is given them in evaluation, (N, S, S, C) normalised."""
    preprocessing = ImagePreprocessing.of(encoder)
    return np.concatenate([batch.numpy() for batch in eval_batches(images, preprocessing)])


def attention_pictures(encoder: SiTBackbone, shown: ImageSet, folder) -> list[Picture]:
    """Plots what each of the two tokens attends to, and the principal components of the patches.

    Args:
        encoder: SiTBackbone.
        shown: ImageSet of a few images.
        folder: for the pictures.
    """
    images, pixels = prepared(shown, encoder), pixels_of(shown, encoder, LARGE)
    maps = attention_maps(encoder, images)
    pictures = []
    for token in TOKENS:
        name = token.replace("_", " ")
        path = folder / f"attention-{token.removesuffix('_token')}.png"
        heads, flow = (np.asarray(maps[token][kind]) for kind in ("heads", "rollout"))
        image_grids.attention_sheet(images, heads, flow, path, encoder.preprocessing)
        caption = (
            f"The attention of the {name} to the patches, laid over the image: each head of the "
            "last block, their mean, and the rollout through all blocks. Each map is scaled from "
            "its own least to its own greatest value, so maps cannot be compared in strength."
        )
        good = "Bright places follow the object, and the heads differ from each other."
        strips = tiles.attention_strips(pixels, heads, flow)
        title = f"Where the {name} looks"
        pictures.append(Picture(path, title, caption, good, tuple(strips)))
    return [*pictures, _patches(encoder, images, pixels, folder)]


def _patches(encoder, images, pixels, folder) -> Picture:
    tokens = np.asarray(encoder(images, training=False)["patch_tokens"], "float32")
    colours = patch_colours(tokens).reshape(-1, *encoder.grid, 3)
    strips = tiles.patch_strips(pixels, colours)
    path = folder / "patches.png"
    image_grids.tile_sheet(strips, path)
    caption = (
        "The first three principal components of the patches' features as red, green and blue. "
        "Patches of one colour are alike to the encoder, in all of these images."
    )
    good = "One colour for one kind of thing, such as the object against what lies behind it."
    return Picture(path, "Which patches are alike", caption, good, tuple(strips))


def map_picture(explored: Explored, folder: pathlib.Path) -> Picture:
    """Plots the map of images that the report also has as an interactive one."""
    path = folder / "feature_map.png"
    charts.feature_map(explored.map.plane, explored.labels, explored.class_names, path)
    unseen = int(np.sum(~explored.is_seen))
    caption = (
        f"{len(explored.labels)} images, {unseen} of which were not trained on, by their two "
        "tokens, laid out by t-SNE: similar images lie close together; distances between groups "
        "and the axes mean nothing. The classes, if there are any, were not used in training."
    )
    good = "Groups that share a class or a look, rather than one even cloud."
    return Picture(path, "A map of the images", caption, good)


def neighbour_picture(
    features: FrozenFeatures, data: RunData, shown: ImageSet, are_training: bool, folder
) -> Picture:
    """Plots images and their nearest neighbours among the training images.

    Args:
        features: FrozenFeatures of the encoder.
        data: RunData.
        shown: ImageSet, from which a few are taken.
        are_training: bool. Whether these are training images.
        folder: for the picture.
    """
    encoder, seed = features.encoder, data.config.seed

    def tokens(images):
        return select_features(features.of(images), "tokens")

    bank = data.train.subset(MAX_BANK, seed)
    bank_tokens = tokens(bank)
    queries, query_tokens = (bank, bank_tokens) if are_training else (shown, tokens(shown))
    chosen = np.random.default_rng(seed).permutation(len(queries))[:SHOWN]
    mean = bank_tokens.mean(axis=0)
    similarity = unit(query_tokens[chosen] - mean) @ unit(bank_tokens - mean).T
    if are_training:  # an image is not its own neighbour
        similarity[np.arange(len(chosen)), chosen] = -np.inf
    count = min(NEIGHBOURS, len(bank) - are_training)
    nearest = np.argsort(-similarity, axis=1)[:, :count]  # (SHOWN, NEIGHBOURS)
    cosines = np.take_along_axis(similarity, nearest, axis=1)
    path = folder / "neighbours.png"
    labels = queries.labels[chosen], bank.labels[nearest]
    has_labels = all((each != NO_LABEL).all() for each in labels)
    names = np.array(data.train.class_names)
    own, near_names = (names[each] if has_labels else None for each in labels)
    taken = queries.take(chosen), bank.take(nearest.ravel())
    images, others = (prepared(each, encoder) for each in taken)
    others = others.reshape(*nearest.shape, *others.shape[1:])
    image_grids.neighbour_sheet(
        images, others, cosines, path, own, near_names, encoder.preprocessing
    )
    pixels, near = (pixels_of(each, encoder, LARGE) for each in taken)
    near = near.reshape(*nearest.shape, *near.shape[1:])
    caption = (
        f"{'Training' if are_training else 'Held-out'} images and their nearest neighbours among "
        f"{len(bank)} training images, by the cosine of both tokens without their mean"
        f"{'; green: the same class' if has_labels else ''}."
    )
    good = "The neighbours show the same kind of thing, and not merely the same colours."
    strips = tiles.neighbour_strips(pixels, near, cosines, own, near_names)
    return Picture(path, "Nearest neighbours", caption, good, tuple(strips))
