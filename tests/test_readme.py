"""The README keeps its word: its Python runs, its commands parse, its links lead somewhere."""

import pathlib
import re
import shlex

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = sorted(
    {
        line[line.index("python train.py") :].split("#")[0].strip()
        for block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
        if "python train.py" in line
    }
)


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command, tmp_path, monkeypatch, call_train):
    """Every train.py command resolves its settings; data sets that are not here are named so."""
    monkeypatch.chdir(tmp_path)
    arguments = [*shlex.split(command)[2:], "--dry_run", "--nodownload", f"--data_dir={tmp_path}"]
    try:
        call_train(*arguments)
    except ValueError as error:
        assert "is not prepared in" in str(error) or "No folder" in str(error), error


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_continuous_integration_runs_the_readmes_commands():
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install -r requirements.txt" in README and "requirements.txt" in script
    assert 'pip install -e ".[dev]"' in README and '".[dev]"' in script
    assert "make test" in README
