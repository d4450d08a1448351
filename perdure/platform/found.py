"""Runs by the beginning of their ids."""

import json

from . import mirror
from .kinds import AnyRun, run_of
from .site import Site


def found(id: str, home: str) -> AnyRun:
    """The run whose id begins so. Raises ValueError."""
    site = Site(home)
    mirror.fetch_begun(id, site)
    files = sorted(site.runs.glob(f"{id}*/run.json"))
    if len(files) != 1:
        which = "none" if not files else "several: " + ", ".join(f.parent.name for f in files)
        raise ValueError(f"expected the id of one run in {home}, got {id!r}, which fits {which}")
    return run_of(json.loads(files[0].read_text())["run"]).normal()
