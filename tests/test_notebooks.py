"""The notebooks run from top to bottom, and agree with the scripts that they are made from."""

import importlib.util
import re
import time

import nbformat
import pytest
from conftest import ROOT

PICTURES = {"01_pretrain": 3, "02_evaluate": 2, "03_export_and_serve": 0, "04_what_sit_learns": 10}
spec = importlib.util.spec_from_file_location("build", ROOT / "notebooks" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def sources(notebook):
    return [(cell.cell_type, cell.id, cell.source) for cell in notebook.cells]


def pictures(notebook):
    return [
        sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        for cell in notebook.cells
    ]


@pytest.mark.parametrize("name", build.SCRIPTS)
def test_a_committed_notebook_agrees_with_its_script_and_was_run(name):
    committed = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    assert sources(committed) == sources(build.make(name)), "run notebooks/build.py"
    text = nbformat.writes(committed)
    assert str(ROOT) not in text and "/tmp/" not in text  # nothing of the machine it was made on
    ran = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in ran)


def test_notebooks_in_one_folder_use_different_run_folders():
    runs = [
        set(re.findall(r"runs/[\w-]+", (ROOT / "notebooks" / f"{name}.py").read_text()))
        for name in build.SCRIPTS
    ]
    assert sum(map(len, runs)) == len(set.union(*runs)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", build.SCRIPTS)
def test_a_notebook_runs_without_error_and_draws_the_same_pictures(name, tmp_path):
    committed = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    notebook = build.make(name)
    begin = time.monotonic()
    build.run(notebook, tmp_path)
    assert time.monotonic() - begin < build.MAX_SECONDS
    errors = [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert not errors
    # The inline backend keeps the pictures in it.
    assert pictures(notebook) == pictures(committed)
    assert sum(pictures(notebook)) == PICTURES[name]
