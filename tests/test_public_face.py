"""What users import from `sit_keras`: complete, lazy, and known to editors."""

import ast
import pathlib
import subprocess
import sys

import pytest

import sit_keras

FACE = pathlib.Path(sit_keras.__file__)


def names_for_editors():
    """What is imported under TYPE_CHECKING, which editors complete from."""
    for node in ast.parse(FACE.read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "typing.TYPE_CHECKING":
            return {
                alias.name: each.module.removeprefix("sit_keras.")
                for each in node.body
                for alias in each.names
            }
    return {}


def test_no_public_name_is_that_of_a_package_or_module():
    """Python would put the package in its place as soon as something of it is imported."""
    rooms = {path.stem for path in FACE.parent.iterdir()}
    assert not rooms & set(sit_keras.__all__)


@pytest.mark.parametrize("name", sit_keras.__all__)
def test_a_public_name_can_be_imported_and_has_a_docstring(name):
    assert getattr(sit_keras, name).__doc__


def test_editors_know_the_names_that_are_there_and_where_they_come_from():
    assert names_for_editors() == sit_keras._HOMES
    assert list(sit_keras._HOMES) == sit_keras.__all__ == sorted(sit_keras.__all__)
    assert set(sit_keras.__all__) <= set(dir(sit_keras))


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'build_encoder'"):
        sit_keras.build_encoder  # noqa: B018


def test_importing_the_package_imports_neither_keras_nor_tensorflow():
    code = "import sys, sit_keras; print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
