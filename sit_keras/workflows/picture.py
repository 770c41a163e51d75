"""A picture of a run: its file, and what a page needs to show it."""

import dataclasses
import pathlib

from sit_keras.plots.tiles import Strip


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that was drawn.

    Args:
        path: of the PNG.
        title: str.
        caption: str. What it shows.
        good: str. What it looks like where all is well.
        strips: the same as separate images, which fit on any screen; empty where there are none.
    """

    path: pathlib.Path
    title: str
    caption: str
    good: str = ""
    strips: tuple[Strip, ...] = ()
