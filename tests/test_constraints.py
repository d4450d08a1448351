"""The tested versions are those that are installed, and go with every Python that README promises."""

import hashlib
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
FIRST = "3.11.0"


@pytest.mark.parametrize("line", [line for line in LINES if line and not line.startswith("#")])
def test_a_version_installs_on_the_oldest_python(line):
    wanted = Requirement(line)
    known = distribution(wanted.name)
    assert known.version in wanted.specifier
    assert FIRST in SpecifierSet(known.metadata.get("Requires-Python", ""))


def test_every_package_that_is_installed_for_it_is_pinned():
    """Those that Perdure and its tests name, and those that they need in turn."""
    pinned = {canonicalize_name(Requirement(line).name) for line in LINES if line and not line.startswith("#")}
    assert {name for name, _ in _installed(Requirement("perdure[dev]"))} - pinned == {"perdure"}


def _installed(first: Requirement) -> set[tuple[str, frozenset[str]]]:
    """What is reached from a requirement, with its extras. pip of today leaves out the solvers that Avalanche asks of
    qpsolvers by an extra's former name, and so does this."""
    reached, left = set(), [first]
    while left:
        wanted = left.pop()
        known = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        with suppress(PackageNotFoundError):
            needs = [] if known in reached else map(Requirement, distribution(wanted.name).requires or [])
            reached.add(known)
            for more in needs:
                if not more.marker or any(more.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                    left.append(more)
    return reached


def test_what_is_pinned_has_been_reviewed():
    """Whoever changes a version looks through the advisories, and says so with a date."""
    digest = hashlib.sha256((ROOT / "constraints.txt").read_bytes()).hexdigest()[:12]
    assert re.search(
        rf"Reviewed \d{{4}}-\d\d-\d\d: constraints\.txt {digest}\.", (ROOT / "docs/security.md").read_text()
    )
