"""The README keeps its word: its Python runs, its commands parse, its links lead somewhere."""

import json
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


def commands(script):
    """The arguments of every call of a script."""
    call = f"python {script}"
    return sorted(
        {
            line[line.index(call) + len(call) :].split("#")[0].strip()
            for block in blocks("bash")
            for line in block.replace("\\\n", " ").splitlines()
            if call in line
        }
    )


PARSE = """
import importlib.util, json, sys
from absl import flags
spec = importlib.util.spec_from_file_location("command", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
for arguments in json.loads(sys.argv[2]):
    flags.FLAGS.unparse_flags()
    assert flags.FLAGS(["command", *arguments]) == ["command"], arguments
"""


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("command", commands("train.py"))
def test_commands_of_train_resolve(command, tmp_path, monkeypatch, call_train):
    """Every train.py command resolves its settings; data sets that are not here are named so."""
    monkeypatch.chdir(tmp_path)
    arguments = [*shlex.split(command), "--dry_run", "--nodownload", f"--data_dir={tmp_path}"]
    try:
        call_train(*arguments)
    except ValueError as error:
        assert "is not prepared in" in str(error) or "No folder" in str(error), error


@pytest.mark.slow
@pytest.mark.parametrize("script", ["evaluate.py", "export.py", "tune.py"])
def test_other_commands_parse(script):
    """In a process of their own, since the commands share names of flags."""
    arguments = [shlex.split(command) for command in commands(script)]
    assert len(arguments) >= 2
    command = [sys.executable, "-c", PARSE, ROOT / script, json.dumps(arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


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
