"""The building blocks of a page that needs no other file: tables, pictures, galleries, a map.

Shapes: N images, T side, H W image, C channels.
"""

import base64
import html
import io
import json
import math
import os
import pathlib
import string
import typing

import numpy as np
from PIL import Image

from sit_keras.data.images import NO_LABEL
from sit_keras.plots.tiles import Strip, Tile
from sit_keras.runs.files import write_text
from sit_keras.workflows.explored import Explored
from sit_keras.workflows.picture import Picture

_TEMPLATES = pathlib.Path(__file__).parents[1] / "templates"
_SMALL = 100  # pixels; smaller images are enlarged pixel by pixel, and kept without loss
_WIDE = 800  # pixels; texts of wider pictures could not be read on the screen of a phone
# How many strips lie side by side, by the least number of images in one.
_LAYOUTS = ((8, "whole"), (4, "half"), (0, "narrow"))


class Section(typing.NamedTuple):
    """A part of a page.

    Args:
        name: str. Its address within the page.
        title: str.
        parts: of HTML.
    """

    name: str
    title: str
    parts: typing.Sequence[str]


def write_page(
    path: pathlib.Path,
    title: str,
    lead: str,
    summary: Section | None,
    sections: typing.Sequence[Section],
) -> None:
    """Writes a page of sections, with its style and its programs inside.

    Args:
        path: of the HTML file.
        title, lead: texts above all.
        summary: comes before the contents.
        sections: in their order; those without parts are left out.
    """
    shown = [section for section in sections if section.parts]
    links = (f"<li><a href='#{each.name}'>{text(each.title)}</a></li>" for each in shown)
    page = string.Template(_template("report.html")).substitute(
        title=text(title),
        lead=text(lead),
        style=_template("report.css"),
        summary=_section(summary) if summary else "",
        contents="\n".join(links),
        body="\n".join(map(_section, shown)),
        script=_template("lightbox.js") + _template("map.js"),
    )
    write_text(path, page)


def text(value: object) -> str:
    """Returns a value as text of HTML that means nothing but itself."""
    return html.escape(str(value), quote=True)


def paragraph(value: str, kind: str = "") -> str:
    """Returns a paragraph of HTML; `kind` is its class in the style."""
    return f"<p{_class(kind)}>{text(value)}</p>"


def table(rows: typing.Iterable[typing.Sequence], heading: typing.Sequence[str] = ()) -> str:
    """Returns a table of HTML, which scrolls by itself where it is wider than the screen."""
    lines = ["<div class='scroll'><table>"]
    if heading:
        cells = "".join(f"<th>{text(name)}</th>" for name in heading)
        lines.append(f"<thead><tr>{cells}</tr></thead>")
    for row in rows:
        lines.append(f"<tr>{''.join(f'<td>{text(value)}</td>' for value in row)}</tr>")
    return "\n".join([*lines, "</table></div>"])


def captions(picture: Picture) -> list[str]:
    """Returns what a picture shows, and what it looks like where all is well."""
    good = f"<p class='good'><b>Good:</b> {text(picture.good)}</p>" if picture.good else ""
    return [paragraph(picture.caption), good]


def sheet(path: os.PathLike, caption: str) -> str:
    """Returns a picture of a file, with its caption; a wide one scrolls on a narrow screen."""
    content = pathlib.Path(path).read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        kind = "sheet wide" if image.width > _WIDE else "sheet"
    data = base64.b64encode(content).decode()
    shown = f"<img class='paper' alt='{text(caption)}' src='data:image/png;base64,{data}'>"
    return (
        f"<figure class='{kind}'><div class='scroll'>{_zoom(shown, caption)}</div>"
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def chart(svg: str, title: str, caption: str) -> str:
    """Returns a chart with a title above it and a caption below."""
    body = _zoom(svg, f"{title}. {caption}")
    return (
        f"<figure><h3>{text(title)}</h3>{body}<figcaption><b>Good:</b> {text(caption)}</figcaption>"
        "</figure>"
    )


def gallery(strips: typing.Sequence[Strip]) -> str:
    """Returns strips of images that are laid out as the screen allows."""
    most = max(len(strip.tiles) for strip in strips)
    across = next(name for least, name in _LAYOUTS if most >= least)
    groups = "".join(
        f"<div class='strip' style='--images:{most}'>{''.join(map(_tile, strip.tiles))}</div>"
        for strip in strips
    )
    return f"<div class='strips {across}'>{groups}</div>"


def album(tiles: typing.Sequence[Tile]) -> str:
    """Returns images with longer texts, side by side."""
    return f"<div class='strip doubts'>{''.join(map(_tile, tiles))}</div>"


def map_parts(explored: Explored) -> list[str]:
    """Returns the interactive map: its data, all thumbnails in one image, and the controls."""
    values = _map_values(explored)
    modes = [("group", "group (k-means)"), ("seen", "trained on or not")]
    if (explored.labels != NO_LABEL).any():
        modes = [("label", "class"), ("right", "error (vote of the neighbours)"), *modes]
    radios = "".join(
        f"<label><input type='radio' name='mode' value='{value}'{' checked' if not i else ''}> "
        f"{name}</label>"
        for i, (value, name) in enumerate(modes)
    )
    data = json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")
    return [
        "<div class='tools'><fieldset><legend>Colour by</legend>" + radios + "</fieldset>"
        "<span><button type='button' data-zoom='1.6' aria-label='Zoom in'>+</button> "
        "<button type='button' data-zoom='0.625' aria-label='Zoom out'>−</button> "
        "<button type='button' data-zoom='reset'>Reset</button></span></div>",
        "<div class='stagebox'><canvas class='plane' tabindex='0' role='img' aria-label='Map of "
        "images; the arrow keys, + and - move it'></canvas><div class='tip' hidden></div></div>",
        "<div class='legend'></div><p class='said' aria-live='polite'></p><div class='near'></div>",
        f"<img class='sprite' hidden alt='' src='{_data_uri(_sprite(explored.thumbnails))}'>",
        f"<script type='application/json' id='map-data'>{data}</script>",
        "<noscript><p>The map needs JavaScript, which is part of this file.</p></noscript>",
    ]


def _map_values(explored):
    """Returns what the program of the map reads."""
    found, labels = explored.map, explored.labels
    low, high = found.plane.min(axis=0), found.plane.max(axis=0)
    spread = np.where(high > low, high - low, 1)
    places = np.where(high > low, (found.plane - low) / spread, 0.5).round(4)
    is_known = (labels != NO_LABEL) & (found.votes != NO_LABEL)
    count, height, width = explored.thumbnails.shape[:3]
    return {
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "label": labels.tolist(),
        "vote": found.votes.tolist(),
        "right": np.where(is_known, found.votes == labels, -1).astype(int).tolist(),
        "group": found.groups.tolist(),
        "seen": explored.is_seen.astype(int).tolist(),
        "near": found.neighbours.tolist(),
        "cosine": found.cosines.round(3).tolist(),
        "names": list(explored.class_names),
        "cell": [width, height],
        "columns": _columns(count),
    }


def _columns(count):
    return math.ceil(math.sqrt(count))


def _sprite(thumbnails):
    """Returns thumbnails (N, T, T, C) as one image, row by row."""
    count, height, width, channels = thumbnails.shape
    columns = _columns(count)
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height, width, channels), "float32")
    cells[:count] = thumbnails
    cells = cells.reshape(rows, columns, height, width, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def _tile(tile):
    mark, kind = {None: ("", ""), True: ("✓ ", " right"), False: ("✗ ", " wrong")}[tile.is_right]
    small = max(tile.pixels.shape[:2]) < _SMALL
    words = text(f"{mark}{tile.text}")
    image = f"<img{_class('small' if small else '')} alt='{words}' src='{_data_uri(tile.pixels)}'>"
    zoom = _zoom(image, f"{mark}{tile.text}")
    return f"<figure class='tile{kind}'>{zoom}<figcaption>{words}</figcaption></figure>"


def _zoom(content, caption):
    words = text(caption)
    return (
        f"<button type='button' class='zoom' data-text='{words}' aria-label='Enlarge: {words}'>"
        f"{content}</button>"
    )


def _data_uri(pixels):
    """Returns pixels (H, W, C) float32 in [0, 1] as an address that holds the image."""
    levels = np.clip(np.asarray(pixels) * 255 + 0.5, 0, 255).astype("uint8")
    levels = levels[..., 0] if levels.shape[-1] == 1 else levels
    kind, buffer = "png" if max(levels.shape[:2]) < _SMALL else "jpeg", io.BytesIO()
    Image.fromarray(levels).save(buffer, kind, quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _section(section):
    heading = f"<section id='{section.name}'><h2>{text(section.title)}</h2>"
    return "\n".join([heading, *section.parts, "</section>"])


def _class(kind):
    return f" class='{kind}'" if kind else ""


def _template(name):
    return (_TEMPLATES / name).read_text(encoding="utf-8")
