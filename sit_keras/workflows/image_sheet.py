"""Writes an HTML page of thumbnails that needs no other file.

Shapes: H W image.
"""

import base64
import html
import io
import os
import typing

import numpy as np
from PIL import Image

from sit_keras.data.finding import printable
from sit_keras.plots.colours import visible
from sit_keras.runs.files import write_text

SIDE = 160  # pixels of a thumbnail
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; max-width: 1200px; margin: 1.5em auto;
    padding: 0 1em; }
section { border-top: 1px solid #8886; padding: .6em 0; }
section > div { display: flex; flex-wrap: wrap; gap: .6em; }
figure { margin: 0; width: 160px; }
figure:first-child { padding-right: .6em; border-right: 3px solid #888; }
figure img, figure p { width: 160px; height: 160px; object-fit: contain; background: #8882;
    margin: 0; display: flex; align-items: center; justify-content: center; }
figcaption { font-size: 12px; overflow-wrap: anywhere; }
h2 { font-size: 1em; margin: .2em 0 .5em; overflow-wrap: anywhere; }
"""


class Picture(typing.NamedTuple):
    """A thumbnail.

    Args:
        pixels: (H, W, 3) uint8, or None where the image is no longer there.
        caption: str.
    """

    pixels: np.ndarray | None
    caption: str


class Row(typing.NamedTuple):
    """Images that belong together, the first of which is set apart.

    Args:
        heading: str.
        pictures: the images.
    """

    heading: str
    pictures: list[Picture]


def write_sheet(
    path: str | os.PathLike,
    title: str,
    notes: typing.Sequence[str],
    rows: typing.Sequence[Row],
) -> None:
    """Writes the page.

    Args:
        path: of the HTML file.
        title: str.
        notes: sentences below the title.
        rows: one section each.
    """
    head = (
        "<!doctype html>\n<html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{_STYLE}</style>"
    )
    parts = [head, f"<h1>{_text(title)}</h1>", *(f"<p>{_text(note)}</p>" for note in notes)]
    for row in rows:
        figures = "".join(map(_figure, row.pictures))
        parts.append(f"<section><h2>{_text(row.heading)}</h2><div>{figures}</div></section>")
    write_text(path, "\n".join(parts) + "\n")


def _figure(picture: Picture) -> str:
    caption = _text(picture.caption)
    if picture.pixels is None:
        image = "<p>no longer there</p>"
    else:
        address = f"data:image/jpeg;base64,{_thumbnail(picture.pixels)}"
        image = f"<img alt='{caption}' src='{address}'>"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _thumbnail(pixels: np.ndarray) -> str:
    shown, buffer = visible(pixels), io.BytesIO()
    image = Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown)
    image.thumbnail((SIDE, SIDE))
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def _text(text: str) -> str:
    return html.escape(printable(text), quote=True)
