"""The README keeps its word: its Python runs, its commands parse, its links lead somewhere."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("python train.py")
    }
)


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command, tmp_path):
    """Every train.py command resolves its settings; data sets that are not here are named so."""
    arguments = shlex.split(command)[2:]
    result = subprocess.run(
        [sys.executable, ROOT / "train.py", *arguments, "--dry_run", "--nodownload"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    missing = "is not prepared in" in result.stderr or "No folder" in result.stderr
    assert result.returncode == 0 or missing, result.stderr


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
