"""Images with a text each, in strips, from which a page can lay out a gallery on any screen.

Shapes: M images, H W size, S side, C channels, A attention heads, R r rows and columns of patches,
K neighbours.
"""

import dataclasses
import typing

import numpy as np

from sit_keras.plots.overlays import enlarged, over_image


@dataclasses.dataclass(frozen=True)
class Tile:
    """An image with its text.

    Args:
        pixels: (H, W, C) float32 in [0, 1], C 1 or 3.
        text: str.
        is_right: bool or None. Whether what the text says is correct; None where nothing is judged.
    """

    pixels: np.ndarray
    text: str
    is_right: bool | None = None


class Strip(typing.NamedTuple):
    """Tiles that belong together.

    Args:
        title: str, perhaps empty.
        tiles: the tiles.
    """

    title: str
    tiles: list[Tile]


def corruption_strips(stages: dict[str, np.ndarray]) -> list[Strip]:
    """Returns a strip for each image, of what each corruption makes of it.

    Args:
        stages: by the name of the corruption, the same images (M, S, S, C) float32 in [0, 1].
    """
    columns = zip(*stages.values(), strict=True)
    return [
        Strip("", [Tile(pixels, name) for name, pixels in zip(stages, images, strict=True)])
        for images in columns
    ]


def reconstruction_strips(
    clean: np.ndarray,
    corrupted: np.ndarray,
    restored: np.ndarray,
    rotation: np.ndarray,
    predicted: np.ndarray | None,
) -> list[Strip]:
    """Returns a strip for each view: clean, corrupted and restored, with its angle.

    Args:
        clean, corrupted, restored: (M, S, S, C) float32 in [0, 1].
        rotation: (M,) int, the true quarter turns clockwise.
        predicted: (M,) int, or None without the rotation task.
    """
    strips = []
    for i, images in enumerate(zip(clean, corrupted, restored, strict=True)):
        names = [f"turned by {90 * rotation[i]}°", "corrupted", "restored"]
        tiles = [Tile(pixels, name) for pixels, name in zip(images, names, strict=True)]
        if predicted is not None:
            is_right = bool(predicted[i] == rotation[i])
            tiles[1] = Tile(corrupted[i], f"predicted {90 * predicted[i]}°", is_right)
        strips.append(Strip("", tiles))
    return strips


def attention_strips(pixels: np.ndarray, heads: np.ndarray, rollout: np.ndarray) -> list[Strip]:
    """Returns a strip for each image: each head, their mean and the rollout laid over it.

    Args:
        pixels: (M, H, W, C) float32 in [0, 1].
        heads: (M, A, R, r) float32, the attention to the patches.
        rollout: (M, R, r) float32.
    """
    strips = []
    for image, each, flow in zip(pixels, heads, rollout, strict=True):
        maps = {f"head {i + 1}": weights for i, weights in enumerate(each)}
        maps = {"rollout": flow, "mean of heads": each.mean(axis=0), **maps}
        tiles = [Tile(over_image(image, weights), name) for name, weights in maps.items()]
        strips.append(Strip("", [Tile(image, "image"), *tiles]))
    return strips


def patch_strips(pixels: np.ndarray, colours: np.ndarray) -> list[Strip]:
    """Returns a strip for each image: the image, and the colours of its patches.

    Args:
        pixels: (M, H, W, C) float32 in [0, 1].
        colours: (M, R, r, 3) float32 in [0, 1].
    """
    return [
        Strip("", [Tile(image, "image"), Tile(enlarged(grid, image.shape[:2]), "its patches")])
        for image, grid in zip(pixels, colours, strict=True)
    ]


def neighbour_strips(
    queries: np.ndarray,
    neighbours: np.ndarray,
    cosines: np.ndarray,
    names: np.ndarray | None = None,
    neighbour_names: np.ndarray | None = None,
) -> list[Strip]:
    """Returns a strip for each image: itself, and its nearest neighbours.

    Args:
        queries: (M, H, W, C) float32 in [0, 1].
        neighbours: (M, K, H, W, C) float32 in [0, 1], the most similar first.
        cosines: (M, K) float32.
        names: (M,) names of the classes of the queries, or None.
        neighbour_names: (M, K) names of the classes of the neighbours, or None.
    """
    strips = []
    for i, query in enumerate(queries):
        tiles = [Tile(query, "image" if names is None else names[i])]
        for j, cosine in enumerate(cosines[i]):
            text, is_right = f"{cosine:.2f}", None
            if names is not None and neighbour_names is not None:
                text = f"{neighbour_names[i, j]} {text}"
                is_right = bool(neighbour_names[i, j] == names[i])
            tiles.append(Tile(neighbours[i, j], text, is_right))
        strips.append(Strip("", tiles))
    return strips
