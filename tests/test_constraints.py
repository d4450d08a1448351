"""The tested versions are those that are installed, and go with every Python that README promises."""

from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

LINES = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
FIRST = "3.11.0"


@pytest.mark.parametrize("line", [line for line in LINES if line and not line.startswith("#")])
def test_a_version_installs_on_the_oldest_python(line):
    wanted = Requirement(line)
    known = distribution(wanted.name)
    assert known.version in wanted.specifier
    assert FIRST in SpecifierSet(known.metadata.get("Requires-Python", ""))
