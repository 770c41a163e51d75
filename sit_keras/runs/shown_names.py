"""How names are shown in what people publish: without their folders, and as plain text."""

import html
import os
import pathlib
import re

# What Markdown, its tables, and the mathematics and addresses in it begin with.
_MARKUP = re.compile(r"[\\`*\[\]()#|!~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.")


def shown_path(path: str | os.PathLike) -> str:
    """Returns a path without the folders above the working folder.

    Args:
        path: of a file or a folder, or the address of a repository, which stays as it is.

    Returns:
        The path relative to the working folder if it lies below; otherwise its last part.
    """
    path = os.fspath(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        return path
    whole = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    here, home = pathlib.Path.cwd(), pathlib.Path.home()
    # Below a folder that home folders lie in, a path would still name its owner.
    if here in whole.parents and here not in home.parents:
        return whole.relative_to(here).as_posix()
    return whole.name or "/"


def shown_dataset(name: str) -> str:
    """Returns the name of a data set, of `folder:PATH` and others with that of `shown_path`."""
    kind, colon, path = name.partition(":")
    return f"{kind}:{shown_path(path)}" if colon and kind != "tfds" else name


def shown_settings(settings: dict) -> dict:
    """Returns plain values about a run, among which data sets, files and folders are shown so."""
    paths = dict.fromkeys(("initial_encoder", "run", "classifier"), shown_path)
    shown = {"dataset": shown_dataset, **paths}
    return {
        name: shown[name](value) if name in shown and value is not None else value
        for name, value in settings.items()
    }


def markdown_text(value: object) -> str:
    """Returns a value as text of Markdown that means nothing but itself, also in a table."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(_one_line(value), quote=False))


def markdown_code(value: object) -> str:
    """Returns a value as a code span of Markdown, for a paragraph."""
    text = _one_line(value)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _one_line(value):
    """Returns a text whose line breaks and other invisible characters are written as `\\n`."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
        for c in str(value)
    )
