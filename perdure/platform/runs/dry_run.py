"""A command that is only looked at: its options and texts are read as ever, and it ends before anything is made.

A process that is to look has the name of a file in its environment. There it writes down what of a machine's files the
command would read, so that whoever sends the command elsewhere knows.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ...streams.storage.directories import Places
from ..storage.locations import JOB, MACHINE, STORAGE

if TYPE_CHECKING:
    from ...streams.datasets.dataset import Source

DRY_RUN = "PERDURE_DRY_RUN"
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Look:
    """What came of it. code: of a line that ends by itself, with all that it has said; None where it would be made."""

    code: int | None
    said: str = ""
    told: str = ""  # on standard error
    paths: tuple[str, ...] = ()  # of files and folders, as the line has them
    data: str | None = None  # the folder where data are looked for first
    unread: str = ""  # why texts could not be read here


def asked() -> bool:
    return DRY_RUN in os.environ


def ends(sources: Iterable["Source | None"] = (), paths: Iterable[str] = (), data: str | None = None) -> None:
    """Leave here, if a look is all that was asked for."""
    if asked():
        named = [path for source in sources if source is not None for path in _named(source)]
        _left(paths=list(dict.fromkeys([*named, *paths])), data=data)


def unreadable(plugin: Path, error: BaseException) -> None:
    """Leave, if only a look was asked for, where a plugin needs what another machine has, and this one has not."""
    if asked() and isinstance(error, ImportError):
        _left(unread=f"{plugin} cannot be run here ({error})")


def look(words: Sequence[str]) -> Look:
    """Let a process of its own, which runs plugins too, read a command line without its `perdure`."""
    environment = {k: v for k, v in os.environ.items() if k not in (STORAGE, JOB, MACHINE)}
    with TemporaryDirectory(prefix="perdure-") as folder:
        found = Path(folder, "found.json")
        line = [sys.executable, "-m", "perdure", *words]
        try:
            made = subprocess.run(
                line, env=environment | {DRY_RUN: str(found)}, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return Look(None, unread=f"reading the line took more than {PATIENCE:g} s here")
        if made.returncode == 0 and found.exists():
            return Look(None, **json.loads(found.read_text()))
    return Look(made.returncode, made.stdout, made.stderr)


def _left(**found: object) -> None:
    Path(os.environ[DRY_RUN]).write_text(json.dumps(found))
    sys.exit(0)


class _Asked(Places):
    """Tells what a source asks for, whether it is here or not."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "paths", [])

    def locate(self, path):
        vars(self)["paths"].append(path)
        return Path(path).expanduser()

    def find(self, folders, files, twins=()):
        return None, []


def _named(source: "Source") -> list[str]:
    places = _Asked()
    with suppress(Exception):  # of a source that has been found by now, or of one's own
        source.paths(places)
    return vars(places)["paths"]
