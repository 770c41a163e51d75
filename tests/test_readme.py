"""What README.md and docs/*.md show works: Python runs, commands parse, links lead somewhere."""

import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import typing

import pytest
from conftest import ROOT

import sit_keras
from sit_keras.cli import run_settings
from sit_keras.cli.command import Command
from sit_keras.cli.main import VERBS, command
from sit_keras.config.presets import presets, run_config
from sit_keras.config.serialization import assignments, changed

README = ROOT / "README.md"
MANUAL = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = sorted(p for p in ROOT.rglob("*.md") if "/." not in str(p.relative_to(ROOT.parent)))
# Where commands are named in running text, too.
TEXTS = [*PAGES, *sorted((ROOT / "notebooks").glob("0*.py"))]
MAX_LINES = 170

JAX = ROOT / "examples" / "jax"
# Programs of others that a reader is told to call.
OTHERS = {"pip", "make", "docker", "kubectl", "curl", "srun", "."}
# Flags of theirs.
FLAGS_OF_OTHERS = {
    "--commit", "--hardware",  # of docs/keep.py
    "--rest",  # of benchmarks/serving_load.py
    "--detach", "--wait", "--kustomize",
    "--file", "--logdir", "--no-deps", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--help",
    "--version", "--quiet", "--device", "--case", "--rounds", "--tf_xla_persistent_cache_directory",
}  # fmt: skip


def name_of(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: pathlib.Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def lines(page: pathlib.Path) -> list[list[str]]:
    """The lines of a page's shell blocks, as words without comments."""
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [line for line in words if line]


def calls(page: pathlib.Path) -> list[tuple[str, list[str]]]:
    """The calls of this project's programs in a page's shell blocks: the program, its arguments."""
    found = []
    for line in lines(page):
        for start, word in enumerate(line):
            if word == "sit-keras":
                found.append((line[start + 1], line[start + 2 :]))
            elif word == "python" and line[start + 1].endswith(".py"):
                found.append((line[start + 1], _until_next(line[start + 2 :])))
    return found


def _until_next(words):
    return words[: words.index("&&")] if "&&" in words else words


def program(name: str) -> Command:
    """The command that a verb of `sit-keras`, or a file, runs."""
    if name.startswith("examples/jax/"):
        spec = importlib.util.spec_from_file_location(pathlib.Path(name).stem, ROOT / name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.COMMAND
    path = pathlib.Path(name)
    if path.suffix == ".py":
        assert (ROOT / path).is_file(), name
    return command(path.stem)


CALLS = sorted({(name, *arguments) for page in MANUAL for name, arguments in calls(page)})


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_command_is_understood_by_its_own_flags(call, monkeypatch):
    monkeypatch.syspath_prepend(str(JAX))  # its files import each other
    name, *arguments = call
    chosen = program(name)
    options = chosen.parse(arguments)
    if chosen in (command("train"), command("doctor")):
        run_settings.resolve(options)
    for setting in ("set", "training", "pretraining"):
        assignments(getattr(options, setting, []))
    if chosen is command("tune"):
        changed(run_config(options.preset or "digits"), assignments(options.set))


@pytest.mark.parametrize("page", MANUAL, ids=name_of)
def test_every_block_is_of_a_kind_that_is_tested(page):
    assert set(re.findall(r"^```(\S+)", page.read_text(), re.MULTILINE)) <= {"python", "bash"}
    for line in lines(page):
        words = [word for word in line if not re.match(r"[A-Z_]+=", word)]
        assert words[0] in {"sit-keras", "python", *OTHERS}, line


def flags_of(chosen: Command) -> set[str]:
    names = chosen.flags("").names()
    return {f"--{name}" for name in names} | {f"--no{name}" for name in names}


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_flags_and_commands_in_running_text_exist(page, monkeypatch):
    monkeypatch.syspath_prepend(str(JAX))
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    known = set().union(*(flags_of(command(verb)) for verb in VERBS))
    known |= flags_of(program("examples/jax/jax_pretrain.py")) | FLAGS_OF_OTHERS
    for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", text):
        assert flag in known, flag
    for verb, rest in re.findall(r"`sit-keras ([\w-]+)([^`]*)`", text):
        assert verb in (*VERBS, "COMMAND"), verb
        if verb in VERBS:
            assert set(re.findall(r"--\w+", rest)) <= flags_of(command(verb)), rest
    for path in re.findall(r"(?:python|pytest) ([\w/]+\.py)", text):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_names_of_the_package_are_exported(page):
    text = page.read_text()
    if page == ROOT / "CHANGELOG.md":
        return  # it names what was
    for name in re.findall(r"(?<!import )(?<!from )\bsit_keras\.([A-Za-z]\w*)\b(?!\.\w)", text):
        assert name in sit_keras.__all__, name


def is_slow(code: str) -> bool:
    return any(call in code for call in (".fit(", "pretrain(", "export(", "onnxruntime"))


CODE = [
    pytest.param(
        code,
        id=f"{page.name}-{number}",
        marks=[pytest.mark.slow] if is_slow(code) and page != README else [],
    )
    for page in MANUAL
    for number, code in enumerate(blocks(page, "python"))
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> typing.Callable[[str], pathlib.Path]:
    """Makes a version of an export in a format, when it is first asked for."""
    folder = tmp_path_factory.mktemp("export")
    versions = {}

    def version(name):
        if name not in versions:
            backbone = sit_keras.SiTBackbone((16, 16, 3), 4, 24, 2, 2, 32)
            backbone.save_to_preset(folder / "encoder")
            versions[name] = sit_keras.export(
                folder / "encoder", folder / name, format=(name,), check=False
            )
        return versions[name]

    return version


@pytest.mark.parametrize("code", CODE)
def test_python_runs(code, tmp_path, monkeypatch, exported):
    monkeypatch.chdir(tmp_path)
    for tracker in ("wandb", "mlflow"):
        if f"import {tracker}" in code:
            pytest.importorskip(tracker)
    if "exports/NAME/1" in code:
        shutil.copytree(exported("savedmodel"), "exports/NAME/1")
    if "exports/NAME/onnx/1" in code:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
        shutil.copytree(exported("onnx"), "exports/NAME/onnx/1")
    exec(compile(code, "page", "exec"), {})


# In this order, after a short run of `train`.
RUN_AS_THEY_STAND = (
    "evaluate --run=runs/digits-digits-seed0",
    "report runs/digits-digits-seed0",
    "export --run=runs/digits-digits-seed0",
    "verify exports/digits-digits-seed0/1",
    "convert runs/digits-digits-seed0 --output=sit.pth",
)


@pytest.mark.slow
def test_the_commands_for_the_digits_run_as_they_stand(tmp_path):
    shown = [" ".join(call) for call in CALLS]
    short = "--epochs=2 --steps_per_epoch=2 --noexport"
    has_torch = importlib.util.find_spec("torch") is not None
    for line in (f"train {short}", *RUN_AS_THEY_STAND):
        assert line in shown or short in line, line
        if line.startswith("convert") and not has_torch:
            continue
        result = subprocess.run(
            [sys.executable, "-m", "sit_keras", *shlex.split(line)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert result.returncode == 0, f"{line}: {result.stderr[-2000:]}"
    assert (tmp_path / "sit.pth").exists() == has_torch
    assert (tmp_path / "runs" / "digits-digits-seed0" / "report.html").exists()


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_names_every_page():
    text = README.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name}" in text, page.name


def test_the_table_of_presets_is_that_of_the_package():
    rows = re.findall(r"^\| `(\w+)` .*?\| ([\d.]+) M \| ([\d.]+) \|$", README.read_text(), re.M)
    assert [name for name, _, _ in rows] == list(presets())
    for name, parameters, flops in rows:
        network = presets()[name]
        assert float(parameters) == pytest.approx(network.num_encoder_parameters / 1e6, abs=0.005)
        decimals = len(flops.partition(".")[2])
        assert float(flops) == round(network.num_encoder_flops / 1e9, decimals)


def test_the_code_map_has_every_module():
    text = (ROOT / "docs" / "code_map.md").read_text()
    shown = set(re.findall(r"\]\(\.\./(sit_keras/[^)]+)\)", text))
    package = ROOT / "sit_keras"
    modules = {path.relative_to(ROOT) for path in package.rglob("*.py")}
    verbs = {pathlib.Path("sit_keras/cli") / f"{verb.replace('-', '_')}.py" for verb in VERBS}
    missing = {path for path in modules - verbs if not path.name.startswith("_")}
    assert sorted(map(str, missing)) == sorted(shown - {"sit_keras/__init__.py"})


def test_continuous_integration_runs_the_commands_of_the_readme():
    script, text = (ROOT / ".ci" / "run").read_text(), README.read_text()
    assert "pip install -r requirements.txt" in text and "requirements.txt" in script
    assert 'pip install -e ".[dev]"' in text and '".[dev]"' in script
    assert "make test-fast" in text and "\nmake test-fast\n" in script
