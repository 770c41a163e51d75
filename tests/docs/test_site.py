"""The documentation site: its navigation has every page, and its reference all of the code."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import sit_keras
from docs import reference_pages
from sit_keras.cli.main import VERBS, command

NAVIGATION = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
IN_NAVIGATION = re.findall(r": (\S+\.md)$", NAVIGATION, re.MULTILINE)
GENERATED = {f"docs/reference/{name}" for name in reference_pages.pages()}
GENERATORS = ("zensical", "mkdocstrings", "nbconvert")


def test_the_navigation_names_every_page_and_every_notebook_once():
    written = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    notebooks = {f"notebooks/{page.stem}.md" for page in (ROOT / "notebooks").glob("*.ipynb")}
    expected = written | notebooks | GENERATED | {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    assert sorted(IN_NAVIGATION) == sorted(expected)


@pytest.mark.parametrize("verb", VERBS)
def test_the_reference_has_every_flag_of_a_command(verb):
    page = reference_pages.commands_page()
    section = page.partition(f"\n## sit-keras {verb}\n")[2].partition("\n## ")[0]
    chosen = command(verb)
    shown = re.findall(r"^- `--(?:\[no\])?(\w+)", section, re.MULTILINE)
    assert sorted(shown) == sorted(chosen.flags("").names())
    assert chosen.sentence in section
    assert all(f"`{each.name.upper()}`" in section for each in (chosen.argument,) if each)


@pytest.mark.parametrize("cls", reference_pages.SETTINGS, ids=lambda cls: cls.__name__)
def test_the_reference_explains_every_field_of_the_settings(cls):
    texts, page = reference_pages.field_texts(cls), reference_pages.settings_page()
    before = reference_pages.SETTINGS[cls]
    names = [field.name for field in dataclasses.fields(cls)]
    assert sorted(texts) == sorted(names)
    for name in names:
        assert texts[name] and texts[name] != name
        assert f"- `{before}{name}` (" in page


def test_the_reference_has_every_dataclass_of_settings_that_is_public():
    public = (getattr(sit_keras, name) for name in sit_keras.__all__ if name.endswith("Config"))
    assert set(public) <= set(reference_pages.SETTINGS)


def test_an_entry_about_several_fields_is_about_each_of_them():
    @dataclasses.dataclass
    class Settings:
        """Two fields and one.

        Args:
            low, high: float. The ends
                of a range.
            name: str. A name.
        """

    expected = {"low": "float. The ends of a range.", "name": "str. A name."}
    assert reference_pages.field_texts(Settings) == {**expected, "high": expected["low"]}


def test_the_api_page_names_every_public_name():
    shown = re.findall(r"^::: sit_keras\.(\S+)$", reference_pages.api_page(), re.MULTILINE)
    assert sorted(shown) == sorted(f"{home}.{name}" for name, home in sit_keras._HOMES.items())


def test_links_and_loaded_files_of_a_site_are_checked(tmp_path):
    pytest.importorskip("nbconvert")
    from docs.site import problems

    (tmp_path / "b.html").write_text('<h1 id="there">B</h1>')
    (tmp_path / "a.html").write_text('<a href="b.html#there"></a><a href="https://x.org"></a>')
    assert problems(tmp_path) == []
    (tmp_path / "a.html").write_text(
        '<a href="b.html#gone"></a><a href="c.html"></a><script src="//x.org/x.js"></script>'
    )
    assert problems(tmp_path) == [
        "a.html links to b.html#gone: no such heading.",
        "a.html links to c.html, which does not exist.",
        "a.html loads //x.org/x.js from the network.",
    ]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_its_search_finds_a_negative_loss():
    for name in GENERATORS:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install -e '.[docs]'")
    built = subprocess.run(
        [sys.executable, "-m", "docs.site"], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    site = ROOT / "site"
    for page in IN_NAVIGATION:
        name = re.sub("README.md$", "index.md", page).removesuffix(".md")
        assert (site / f"{name}.html").is_file(), page
    assert "data:image" not in (site / "notebooks" / "01_pretrain.html").read_text()
    assert len(list((site / "notebooks").rglob("*.png"))) == 15
    items = json.loads((site / "search.json").read_text())["items"]
    found = {item["location"].partition("#")[0] for item in items if "negative" in item["title"]}
    assert "docs/how_to/negative_loss.html" in found
