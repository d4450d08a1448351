"""What a submitted job writes down of itself in its storage: where what it comes to lies, for `perdure fetch`."""

import os
from pathlib import Path
from typing import Any

from ..storage.locations import JOB, STORAGE
from ..storage.sealed import Damaged, read_sealed, write_sealed
from . import sync
from .workspace import Site

NAME = "job.json"


def note(folder: Path, site: Site) -> None:
    """Say that what this job comes to lies in a folder of a home; nothing where this is no job.

    The record lies at the top of the storage, which whoever knows the job knows: the home may be a folder in it.
    """
    id = os.environ.get(JOB)
    if not id:
        return
    home = site.storage or site.home
    root = Site(os.environ.get(STORAGE) or home)
    kept = {"home": home.removeprefix(root.storage or root.home).strip("/"), "folders": []}
    path = _folder(id, root) / NAME
    if path.exists():
        kept = read_sealed(path)
    named = folder.relative_to(site.home).as_posix()
    if named not in kept["folders"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, kept | {"folders": [*kept["folders"], named]})
        sync.carry(path.parent, root)


def noted(id: str, root: Site) -> dict[str, Any] | None:
    """What a job has written down; None where there is nothing, or it cannot be seen from here. Raises Damaged."""
    sync.fetch_folder(_folder(id, root), root)
    try:
        return read_sealed(_folder(id, root) / NAME)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Damaged as e:
        raise Damaged(f"{_folder(id, root)}: {e}; submit the line again, which writes it anew") from None


def _folder(id: str, root: Site) -> Path:
    return Path(root.home) / "jobs" / id
