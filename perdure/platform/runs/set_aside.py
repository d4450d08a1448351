"""Runs that are made anew: the old one is set aside until the new one is finished, and comes back where it fails."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..storage.checkpoints import Store
from . import sync
from .any_run import AnyRun
from .journal import Journal
from .record import finished
from .verification import FINISHED
from .workspace import ERROR, Site


def set_aside(runs: Sequence[AnyRun], site: Site) -> None:
    """Let runs begin anew; whatever was made of them waits until it is settled."""
    for run in runs:
        _set_aside(run, site)


@contextmanager
def settled(runs: Sequence[AnyRun], site: Site) -> Iterator[None]:
    """While runs are made. Afterwards what was set aside is dropped where its run is finished anew, and comes back
    where it failed or was not begun; that of a run that was stopped waits until it has gone on.
    """
    try:
        yield
    finally:
        for run in runs:
            if not _away(run, site).exists():
                continue
            if finished(run, site):
                shutil.rmtree(_away(run, site))
                sync.drop_aside(run, site)
            elif not (site.folder(run) / "run.json").exists() or _failed(run, site):
                _bring_back(run, site)


def _set_aside(run: AnyRun, site: Site) -> None:
    """Leave a folder in which nothing was made, and attempts are counted on: one that still writes is shut out."""
    folder, away = site.folder(run), _away(run, site)
    if not (folder / "run.json").exists():
        return
    newest = Store(folder).newest()
    if (folder / FINISHED).exists() or not away.exists():
        shutil.rmtree(away, ignore_errors=True)
        away.parent.mkdir(exist_ok=True)
        folder.rename(away)
    else:  # a stopped run does not take the place of a finished one
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / f"attempt-{newest:04d}").touch()
    sync.set_aside(run, site)


def _bring_back(run: AnyRun, site: Site) -> None:
    folder, away = site.folder(run), _away(run, site)
    newest, wreck = Store(folder).newest(), away.with_suffix(".failed")
    shutil.rmtree(wreck, ignore_errors=True)
    folder.rename(wreck)
    away.rename(folder)
    (folder / f"attempt-{newest:04d}").touch()
    if (wreck / ERROR).exists():
        shutil.copy(wreck / ERROR, folder / ERROR)
    shutil.rmtree(wreck)
    sync.bring_back(run, site)


def _failed(run: AnyRun, site: Site) -> bool:
    """Whether the last attempt at a run came to a failure of its own."""
    ends = [note["event"] for note in Journal(site.folder(run)).notes() if note["event"] in ("start", "failed")]
    return ends[-1:] == ["failed"]


def _away(run: AnyRun, site: Site) -> Path:
    return Path(site.home) / "aside" / run.id
