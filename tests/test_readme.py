"""The README keeps its word: its Python runs, its commands parse, its links lead somewhere."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from sit_keras.config.network import SiTConfig
from sit_keras.models.backbone import build_encoder
from sit_keras.serving.export import export

README = (ROOT / "README.md").read_text()
PAGES = sorted(p for p in ROOT.rglob("*.md") if "/." not in str(p.relative_to(ROOT.parent)))


BENCHMARKS = sorted(set(re.findall(r"^python (benchmarks/\w+\.py)", README, re.MULTILINE)))


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


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A version of an export."""
    folder = tmp_path_factory.mktemp("export")
    build_encoder(SiTConfig(16, 4, 24, 2, 2, 32)).save(folder / "encoder.keras")
    return export(folder / "encoder.keras", folder / "versions", check=False)


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_python_runs(code, tmp_path, monkeypatch, exported):
    monkeypatch.chdir(tmp_path)
    if "exports/NAME/1" in code:
        shutil.copytree(exported, "exports/NAME/1")
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


def test_every_block_is_looked_at():
    """A block of another kind would be run by nobody."""
    assert set(re.findall(r"^```(\S+)", README, re.MULTILINE)) == {"python", "bash"}
    for block in blocks("bash"):
        for called in re.findall(r"\bpython (?!-m)(\S+)", block):
            assert called in {"train.py", "evaluate.py", "export.py", "tune.py", *BENCHMARKS}


@pytest.mark.parametrize("script", BENCHMARKS)
def test_benchmarks_have_the_flags_they_are_given(script):
    assert commands(script)
    known = (ROOT / script).read_text()
    for arguments in commands(script):
        for flag in re.findall(r"--\w+", arguments):
            assert f'"{flag}"' in known, flag


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m sit_keras\.(\w+)", README))))
def test_modules_know_the_flags_they_are_given(module, capsys):
    name = f"sit_keras.{module}"
    if importlib.util.find_spec(name).submodule_search_locations:
        name += ".__main__"
    with pytest.raises(SystemExit):
        importlib.import_module(name).main(["--help"])
    known = re.findall(r"--\w+", capsys.readouterr().out)
    for arguments in commands(f"-m sit_keras.{module}"):
        assert set(re.findall(r"--\w+", arguments)) <= set(known)


RUN_AS_THEY_STAND = (
    "evaluate.py --run=runs/digits-digits-seed0",
    "-m sit_keras.visualize runs/digits-digits-seed0",
    "export.py --run=runs/digits-digits-seed0",
    "export.py --verify=exports/digits-digits-seed0/1",
    "-m sit_keras.convert runs/digits-digits-seed0 --output=sit.pth",
)


@pytest.mark.slow
def test_commands_run_as_they_stand(tmp_path, monkeypatch, call_train):
    monkeypatch.chdir(tmp_path)
    call_train("--epochs=2", "--steps_per_epoch=2", "--warmup_epochs=0")
    has_torch = importlib.util.find_spec("torch") is not None
    for command in RUN_AS_THEY_STAND if has_torch else RUN_AS_THEY_STAND[:-1]:
        assert f"python {command}" in README
        first, *rest = shlex.split(command)
        program = [first] if first == "-m" else [str(ROOT / first)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(
            [sys.executable, *program, *rest], capture_output=True, text=True, env=environment
        )
        assert result.returncode == 0, f"{command}: {result.stderr[-2000:]}"


def slug(heading):
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    anchors = {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        assert not path or (page.parent / path).exists(), link
        assert not anchor or path or anchor in anchors, link


def test_continuous_integration_runs_the_readmes_commands():
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install -r requirements.txt" in README and "requirements.txt" in script
    assert 'pip install -e ".[dev]"' in README and '".[dev]"' in script
    assert "make test" in README
