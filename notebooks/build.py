"""Makes the notebooks from the scripts beside them, and runs them.

python notebooks/build.py               all of them
python notebooks/build.py 01_pretrain   one

A cell begins at `# %%`, a cell of text at `# %% [markdown]`.
"""

import argparse
import os
import pathlib
import re
import tempfile

import nbclient
import nbformat

HERE = pathlib.Path(__file__).parent
SCRIPTS = sorted(path.stem for path in HERE.glob("0*.py"))
MAX_SECONDS = 180
INSTALL = """import importlib.util
import pathlib

PROJECT = ".."  # in Colab, the address of the project instead: git+https://...

if importlib.util.find_spec("sit_keras") is None:
    if PROJECT == ".." and not pathlib.Path("../pyproject.toml").exists():
        raise ImportError("Put the address of the project into PROJECT, and run this cell again.")
    %pip install --quiet $PROJECT"""


def make(name: str) -> nbformat.NotebookNode:
    """Returns the notebook of a script, not yet run."""
    cells = [_cell(name, 0, nbformat.v4.new_code_cell, INSTALL)]
    parts = re.split(r"^# %%(.*)\n", (HERE / f"{name}.py").read_text(), flags=re.MULTILINE)
    for kind, text in zip(parts[1::2], parts[2::2], strict=True):
        new = nbformat.v4.new_code_cell
        if "[markdown]" in kind:
            new = nbformat.v4.new_markdown_cell
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        cells.append(_cell(name, len(cells), new, text.strip().removesuffix("  # fmt: skip")))
    cells.insert(0, cells.pop(1))  # the title stands above the installation
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _cell(name, number, new, source):
    """A cell whose id stays the same from one making to the next."""
    cell = new(source)
    cell["id"] = f"{name[:2]}-{number:02d}"
    return cell


def run(notebook: nbformat.NotebookNode, folder: str | os.PathLike) -> None:
    """Runs a notebook in a folder, in place; its figures stay within it.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(HERE.parent)}
    resources = {"metadata": {"path": os.fspath(folder)}}
    nbclient.NotebookClient(
        notebook,
        timeout=MAX_SECONDS,
        resources=resources,
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    for cell in notebook.cells:
        if "outputs" in cell:
            # TensorFlow's libraries print the time and their process number on stderr.
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(SCRIPTS)}; all by default")
    for name in parser.parse_args().names or SCRIPTS:
        notebook = make(name)
        with tempfile.TemporaryDirectory() as folder:
            run(notebook, folder)
        path = HERE / f"{name}.ipynb"
        nbformat.write(notebook, path)
        print(path)


if __name__ == "__main__":
    main()
