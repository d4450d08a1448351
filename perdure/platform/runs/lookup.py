"""Runs by the beginning of their ids."""

from ..storage.sealed import Damaged, read_sealed
from . import sync
from .any_run import AnyRun, run_of
from .workspace import Site


def found(id: str, home: str) -> AnyRun:
    """The run whose id begins so. Raises ValueError."""
    site = Site(home)
    sync.fetch_begun(id, site)
    files = sorted(site.runs.glob(f"{id}*/run.json"))
    if len(files) != 1:
        which = "none" if not files else "several: " + ", ".join(f.parent.name for f in files)
        raise ValueError(f"expected the id of one run in {home}, got {id!r}, which fits {which}")
    try:
        known = read_sealed(files[0])
    except Damaged as e:
        raise Damaged(f"run {files[0].parent.name}: {e}; type the line that made it again, which repairs it") from None
    return run_of(known["run"]).normal()
