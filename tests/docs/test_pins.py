"""The exact versions in `constraints.txt` are complete, and are those that the extras ask for."""

import re

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs import pins

LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINNED = dict(line.split("==") for line in LINES if not line.startswith("#"))


def test_every_line_is_one_exact_version_and_no_address():
    for line in LINES:
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][a-z0-9.]*", line), line
        assert "://" not in line


@pytest.mark.parametrize("requirement", pins.wanted(), ids=str)
def test_what_the_package_and_its_extras_need_is_pinned_to_a_version_that_they_accept(requirement):
    version = PINNED[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


def test_what_a_package_needs_itself_is_pinned_too():
    found = pins.pins([Requirement("pytest")])
    assert {"pytest", "pluggy", "iniconfig"} <= set(found)
    assert "colorama" not in found  # which it needs on Windows alone


def test_a_package_that_is_missing_or_of_another_version_is_refused():
    with pytest.raises(ValueError, match="no-such-package is not installed"):
        pins.pins([Requirement("no-such-package")])
    with pytest.raises(ValueError, match="numpy>=99 is asked for, and .* is installed"):
        pins.pins([Requirement("numpy>=99")])
