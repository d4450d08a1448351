"""Looks at everything that a home holds, whether it is as it was written."""

from pathlib import Path
from tempfile import TemporaryDirectory

from ..storage.sealed import Damaged
from . import study as commands
from . import sync
from .verification import damage
from .workspace import Site


def verified(id: str, home: str) -> dict[str, list[str]]:
    """What is wrong with each run whose id begins with `id`, and with each command where `id` is empty.

    Results in remote storage are brought to a folder of their own for it. Raises ValueError where there is no such run.
    """
    site = Site(home)
    if not site.storage:
        return _verified(id, site)
    with TemporaryDirectory(prefix="perdure-verify-") as scratch:
        here = Site(scratch)
        lost = sync.bring_all(id, here, site.storage)
        known = _verified(id, here)
        return {name: lost.get(name, []) + known.get(name, []) for name in {**lost, **known}}


def _verified(id: str, site: Site) -> dict[str, list[str]]:
    folders = sorted(path for path in site.runs.glob(f"{id}*") if path.is_dir() and any(path.iterdir()))
    if not folders and id:
        raise ValueError(f"expected the id of a run in {site.home}, or its beginning, got {id!r}, which fits none")
    known = {folder.name: damage(folder) for folder in folders}
    return known | ({} if id else {f"command {folder.name}": _of_command(folder) for folder in _commands(site.home)})


def _commands(home: str) -> list[Path]:
    return commands.folders(home)


def _of_command(folder: Path) -> list[str]:
    try:
        commands.rows(folder)
    except Damaged as e:
        return [str(e)]
    return []
