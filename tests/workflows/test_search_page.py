"""The way through docs/search.md, each line of it, with somebody's own photos."""

import shlex
import shutil

import pytest
from conftest import ROOT
from index_case import altered, write_photos

import sit_keras
from sit_keras.cli.main import call

PAGE = ROOT / "docs" / "search.md"


def shown_lines():
    block = PAGE.read_text().split("```bash\n")[1].split("```")[0]
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def test_every_line_of_the_page_can_be_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = write_photos(tmp_path / "my" / "photos", 12)
    write_photos(tmp_path / "my" / "test", 3, seed=1)
    shutil.move(altered(paths[0], "small"), "my/test/leak.png")
    shutil.copyfile(paths[4], "new.jpg")  # by its content a PNG, which is read as well
    altered(paths[5], "jpeg")
    sit_keras.SiTBackbone.from_preset("sit_digits").save_to_preset("runs/photos")
    lines = shown_lines()
    assert [line[1] for line in lines] == ["embed", "search", "duplicates", "embed", "duplicates"]
    for program, verb, *arguments in lines:
        assert program == "sit-keras"
        call(verb, arguments)
    said = capsys.readouterr().out
    assert "1.000  my/photos/04.png  (the same file)" in said
    assert "1 pairs: 0 content, 0 pixels, 1 near" in said
    assert "my/test/leak.png" in (tmp_path / "leaks.csv").read_text()
    assert "<img " in (tmp_path / "found.html").read_text()
    assert "<img " in (tmp_path / "pairs.html").read_text()


@pytest.mark.parametrize("verb", ["search", "duplicates"])
def test_the_help_says_that_the_mean_is_subtracted(verb, capsys):
    call(verb, ["--help"])
    assert "without the mean of the index" in " ".join(capsys.readouterr().out.split())
