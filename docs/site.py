"""Builds the documentation site: `python -m docs.site`, which is `make docs`.

The pages of the repository, the notebooks with the pictures in them, and the reference pages are
laid out in `.site` as they lie in the repository, so that links between them hold. A source file
that a page links to comes along as text. Zensical then makes HTML of them in `site`.
"""

import html.parser
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

import nbconvert

from docs.reference_pages import pages

ROOT = pathlib.Path(__file__).resolve().parent.parent
STAGED, BUILT = ROOT / ".site", ROOT / "site"
REFERENCE = "docs/reference"
# Pages that the others need not link to.
FIRST = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
PICTURES = {".png", ".jpg", ".svg", ".gif", ".webp"}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```|``.+?``|`[^`\n]+`(?!\]))", re.DOTALL | re.MULTILINE)


def stage() -> list[str]:
    """Writes all pages to `.site`.

    Returns:
        The paths of the pages, relative to the repository.

    Raises:
        ValueError: if a link leads nowhere.
    """
    shutil.rmtree(STAGED, ignore_errors=True)
    written = {f"{REFERENCE}/{name}": text for name, text in pages().items()}
    for path, text in written.items():
        _write(path, text)
    waiting = [*FIRST, *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
    done = set(written)
    while waiting:
        page = waiting.pop()
        if page in done:
            continue
        done.add(page)
        text = (
            _notebook(page) if page.startswith("notebooks/") else (ROOT / page).read_text("utf-8")
        )
        text, linked = _with_links(page, text)
        _write(page, text)
        waiting += linked
    return sorted(done)


def _write(path: str, text: str) -> None:
    target = STAGED / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def _notebook(page: str) -> str:
    """Returns a committed notebook as Markdown, and writes its pictures beside the page."""
    exporter = nbconvert.MarkdownExporter()
    source = (ROOT / page).with_suffix(".ipynb")
    name = f"{source.stem}_files"
    resources = {"output_files_dir": name, "unique_key": source.stem}
    text, found = exporter.from_filename(str(source), resources=resources)
    for path, data in found["outputs"].items():
        target = STAGED / "notebooks" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return text


def _with_links(page: str, text: str) -> tuple[str, list[str]]:
    """Returns the text of a page with links that hold on the site, and the pages it links to."""
    linked = []

    def replaced(match):
        mark, label, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or "://" in path or (STAGED / page).parent.joinpath(path).is_file():
            return match[0]
        file = (ROOT / page).parent.joinpath(path).resolve()
        name = str(file.relative_to(ROOT))
        if not file.exists():
            raise ValueError(f"{page} links to {target}, which does not exist: mend the link.")
        if file.is_dir():
            return label
        if file.suffix == ".ipynb":
            path, name = path.removesuffix("ipynb") + "md", name.removesuffix("ipynb") + "md"
        if name.endswith(".md"):
            linked.append(name)
        else:
            suffix = "" if file.suffix in PICTURES else ".txt"
            path += suffix
            (STAGED / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, STAGED / f"{name}{suffix}")
        return f"{mark}[{label}]({path}{hash_sign}{anchor})"

    parts = CODE.split(text)
    whole = [part if i % 2 else LINK.sub(replaced, part) for i, part in enumerate(parts)]
    return "".join(whole), linked


class _Page(html.parser.HTMLParser):
    """The anchors of a page of HTML, its links, and what a browser loads with it."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values.get("id") or "", values.get("name") or ""}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(values.get("href") or "")
        elif values.get("src"):
            self.loaded.append(values["src"])


def problems(built: pathlib.Path) -> list[str]:
    """Returns what is wrong with the links of a site: a sentence each.

    Args:
        built: the folder of a site.
    """
    read = {file: _Page(file.read_text("utf-8")) for file in sorted(built.rglob("*.html"))}
    found = []
    for file, page in read.items():
        for link in [*page.links, *page.loaded]:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    found.append(f"{file.relative_to(built)} loads {link} from the network.")
                continue
            start = built if parts.path.startswith("/") else file.parent
            target = start.joinpath(urllib.parse.unquote(parts.path).lstrip("/")).resolve()
            target = target / "index.html" if target.is_dir() else target
            target = target if parts.path else file
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.exists():
                found.append(f"{file.relative_to(built)} links to {link}, which does not exist.")
            elif target in read and anchor not in read[target].anchors:
                found.append(f"{file.relative_to(built)} links to {link}: no such heading.")
    return found


def main() -> None:
    """Builds the site; ends with exit code 1 on a warning or a link that leads nowhere."""
    staged = stage()
    shutil.rmtree(BUILT, ignore_errors=True)
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    if subprocess.run(build, cwd=ROOT).returncode:
        sys.exit("The site was not built: mend what is named above.")
    if found := problems(BUILT):
        sys.exit("\n".join(found))
    print(f"{len(staged)} pages: open {BUILT.relative_to(ROOT) / 'index.html'} in a browser.")


if __name__ == "__main__":
    main()
