"""Folders of runs and studies, brought from remote storage and carried to it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..storage.checkpoints import Fenced
from ..storage.mirror import Mirror, names
from ..storage.remote_access import expect_storage
from .any_run import AnyRun
from .events import Event, Kept
from .workspace import Site


def look(site: Site) -> None:
    """Raises ValueError where nothing can be carried to storage: before there is something to carry."""
    if site.storage:
        expect_storage(site.storage, write=True)


def fetch(runs: Sequence[str], site: Site, checkpoints: bool = False) -> None:
    """Bring what storage knows of runs, by their ids, to the local copy; nothing where results lie in a folder."""
    if not site.storage:
        return

    def one(id: str) -> None:
        mirror_of_run(id, site, site.storage).pull(lambda name: checkpoints or not name.startswith("checkpoint-"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, runs))  # raises what went wrong


def bring_all(id: str, here: Site, url: str) -> dict[str, list[str]]:
    """Bring all of the runs whose ids begin so, and commands, with every file; what is damaged in storage, by run."""
    lost: dict[str, list[str]] = {}
    site = replace(here, storage=url)
    for name in (n for n in _listed(site, "runs") if n.startswith(id)):
        of = mirror_of_run(name, here, url)
        of.pull()
        lost[name] = of.damaged
    for name in () if id else _listed(site, "commands"):
        of = _counterpart(Path(here.home) / "commands" / name, site)
        of.pull()
        lost[f"command {name}"] = of.damaged
    return lost


def fetch_begun(id: str, site: Site) -> None:
    """Bring all of the runs whose ids begin so."""
    if site.storage:
        fetch([name for name in _listed(site, "runs") if name.startswith(id)], site, checkpoints=True)


def fetch_commands(site: Site) -> None:
    for name in _listed(site, "commands") if site.storage else ():
        fetch_folder(Path(site.home) / "commands" / name, site)


def fetch_folder(folder: Path, site: Site) -> None:
    """Bring a folder below home."""
    if site.storage:
        expect_storage(site.storage)
        _counterpart(folder, site).pull()


def carry(folder: Path, site: Site) -> None:
    """Carry a folder below home to storage; nothing where results lie in a folder."""
    if not site.storage:
        return
    mirror = _counterpart(folder, site)
    mirror.held = mirror._manifest()
    mirror.claim()
    with suppress(Fenced):  # somebody has carried a newer state meanwhile
        mirror.push()


def heard(event: Event, site: Site) -> None:
    """Bring what an event speaks of."""
    if site.storage and not isinstance(event, Kept):
        fetch([event.run], site)


def set_aside(run: AnyRun, site: Site) -> None:
    if site.storage:
        mirror_of_run(run.id, site, site.storage).set_aside()


def bring_back(run: AnyRun, site: Site) -> None:
    if site.storage:
        mirror_of_run(run.id, site, site.storage).bring_back()


def drop_aside(run: AnyRun, site: Site) -> None:
    if site.storage:
        mirror_of_run(run.id, site, site.storage).drop_aside()


def mirror_of_run(id: str, here: Site, url: str) -> Mirror:
    return Mirror(here.runs / id, f"{url}/runs/{id}")


def _counterpart(folder: Path, site: Site) -> Mirror:
    return Mirror(folder, f"{site.storage}/{folder.relative_to(site.home).as_posix()}")


def _listed(site: Site, kind: str) -> list[str]:
    from fsspec.core import url_to_fs

    expect_storage(site.storage)
    fs, root = url_to_fs(site.storage)
    return names(fs, f"{root}/{kind}")
