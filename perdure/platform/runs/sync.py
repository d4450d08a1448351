"""Results in remote storage: what an attempt keeps on its machine is carried to an fsspec address, and brought back.

A folder there holds one more for every attempt. An attempt writes to its own alone, under names that hold a digest of
the content, and says in a manifest, written last, which files its state consists of. So nobody reads half a state, and
an attempt that was taken over can harm nothing of the newer one's, whatever it still writes.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from os import getpid, uname
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from ...streams.datasets.dataset import Dataset
from ..execution.execute import execute, finished, told
from ..storage.checkpoints import Fenced, write
from ..storage.locations import absolute
from ..storage.remote_access import answered, expect_storage
from ..storage.sealed import Damaged
from .any_run import AnyRun
from .events import Event, Failed, Kept, Repaired
from .run import Run
from .verification import unseal_damaged
from .workspace import Site

PAUSES = (0.2, 1.0, 5.0)  # seconds before storage that failed is asked again
SETTLED = 1.0  # seconds in which a storage shows to everybody what was written
CHECKED = 1.0  # seconds between looks for a checkpoint that is not there yet
ASIDE = "aside.json"  # the manifest of a run that is made anew
log = logging.getLogger(__name__)
Wanted = Callable[[str], bool]


class Mirror:
    """A folder of this machine and its counterpart at `url`."""

    def __init__(self, folder: Path, url: str):
        from fsspec.core import url_to_fs

        local = url.startswith(("file://", "local://"))
        self.fs, self.root = url_to_fs(absolute(url), **({"auto_mkdir": True} if local else {}))
        self.folder, self.attempt, self.number = folder, 0, 0
        self.held: dict[str, list] = {}  # by name: where it lies in storage, its SHA-256
        self._former: dict[str, list] = {}  # what the manifest before said: whoever finds the newest torn needs it
        self._seen: dict[str, tuple] = {}  # by name: the file's time and size when it was carried
        self.damaged: list[str] = []  # what came back otherwise than it was sent, and was left out

    def claim(self) -> int:
        """The number of a new attempt; from now on no older attempt can carry anything that is read."""
        attempt = self.newest() + 1
        while not self._won(f"{self.root}/attempt-{attempt:04d}"):
            attempt += 1
        self.attempt = attempt
        return attempt

    def newest(self) -> int:
        return max(self._attempts(), default=0)

    def guard(self) -> None:
        """Raises Fenced unless this attempt is the newest."""
        newest = self.newest()
        if newest != self.attempt:
            raise Fenced(f"attempt {self.attempt} of {self.folder.name} was taken over by attempt {newest}")

    def pull(self, wanted: Wanted = lambda name: True) -> bool:
        """Bring what the newest attempt has carried, as far as it is wanted and not here; whether there is anything.

        A file that is damaged is left out, and named in `damaged`: readers of the folder see that it is gone.
        """
        self.damaged = []
        for _ in range(3):  # a file may be replaced by a newer one between the manifest and the look at it
            self.held = self._manifest()
            try:
                for name, (where, digest) in self.held.items():
                    if wanted(name):
                        self._bring(name, where, digest)
                break
            except FileNotFoundError as e:
                gone = e
        else:
            raise Damaged(f"{self.root} lacks a file that its manifest names ({gone}); make the run anew with --again")
        for pattern in ("checkpoint-*.pt", "journal*.jsonl", "finished"):
            for path in self.folder.glob(pattern):
                if path.name not in self.held:  # an older state's, or of a run that somebody has had made anew
                    path.unlink(missing_ok=True)
        return bool(self.held)

    def push(self) -> None:
        """Carry what is new here since the last time. Raises Fenced."""
        self.guard()
        before, held = dict(self.held), {}
        for path in self._files():
            name = path.relative_to(self.folder).as_posix()
            with suppress(FileNotFoundError):  # an old checkpoint is removed while a newer one is kept
                held[name] = self._carried(path, name)
        if held == before:
            return
        self.guard()
        self._say(held)
        ours, needed = f"attempt-{self.attempt:04d}/", {w for w, _ in [*before.values(), *held.values()]}
        for where in {w for w, _ in self._former.values()} - needed:
            if where.startswith(ours):
                self._quietly_removed(f"{self.root}/{where}")
        self.held, self._former = held, before

    def set_aside(self) -> None:
        """Let the next attempt find nothing; what there is can be brought back."""
        held = self._manifest()
        if held:
            self._put(f"{self.root}/{ASIDE}", json.dumps(held, sort_keys=True).encode())
        self.claim()
        self._say({})

    def bring_back(self) -> None:
        """Let the next attempt find what was set aside; its files are where its own attempts carried them."""
        with suppress(FileNotFoundError):
            held = json.loads(self._tried(lambda: self.fs.cat_file(f"{self.root}/{ASIDE}")))
            self.claim()
            self._say(held)
            self.drop_aside()

    def drop_aside(self) -> None:
        self._quietly_removed(f"{self.root}/{ASIDE}")

    def _say(self, held: dict[str, list]) -> None:
        self.number += 1
        place = f"{self.root}/attempt-{self.attempt:04d}/manifest-"
        self._put(f"{place}{self.number:06d}.json", json.dumps(held, sort_keys=True).encode())
        if self.number > 2:
            self._quietly_removed(f"{place}{self.number - 2:06d}.json")

    def _carried(self, path: Path, name: str) -> list:
        stat = path.stat()
        seen = (stat.st_mtime_ns, stat.st_size)
        if name in self.held and self._seen.get(name) == seen:
            return self.held[name]
        content = path.read_bytes()
        digest = sha256(content).hexdigest()
        if name not in self.held or self.held[name][1] != digest:
            where = f"attempt-{self.attempt:04d}/{name}.{digest[:16]}"
            self._put(f"{self.root}/{where}", content)
            self._seen[name] = seen
            return [where, digest]
        self._seen[name] = seen
        return self.held[name]

    def _bring(self, name: str, where: str, digest: str) -> None:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise Damaged(f"{self.root} names a file outside of its folder, {name!r}")
        if path.exists() and sha256(path.read_bytes()).hexdigest() == digest:
            return
        content = self._tried(lambda: self.fs.cat_file(f"{self.root}/{where}"))
        if sha256(content).hexdigest() == digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, content)
        else:
            path.unlink(missing_ok=True)
            self.damaged.append(f"{name} is damaged in {self.root}/{where}")
            log.warning("%s/%s is damaged; going on from what is whole", self.root, where)

    def _manifest(self) -> dict[str, list]:
        """Of the newest attempt that has carried anything."""
        for attempt in sorted(self._attempts(), reverse=True):
            names = self._names(f"{self.root}/attempt-{attempt:04d}")
            for name in sorted((n for n in names if n.startswith("manifest-")), reverse=True):
                with suppress(ValueError, FileNotFoundError):  # torn, where storage is a folder and the machine died
                    path = f"{self.root}/attempt-{attempt:04d}/{name}"
                    return json.loads(self._tried(lambda path=path: self.fs.cat_file(path)))
        return {}

    def _files(self) -> list[Path]:
        """Checkpoints first: the journal is then at least as long as they say."""
        every = [p for p in self.folder.rglob("*") if p.is_file() and not p.name.startswith((".", "attempt-"))]
        return sorted((p for p in every if p.name != "lock"), key=lambda p: (p.suffix != ".pt", p.as_posix()))

    def _attempts(self) -> list[int]:
        return [int(n[8:]) for n in self._names(self.root) if n.startswith("attempt-") and n[8:].isdigit()]

    def _names(self, folder: str) -> list[str]:
        return names(self.fs, folder)

    def _put(self, path: str, content: bytes) -> None:
        self._tried(lambda: self.fs.pipe_file(path, content))

    def _quietly_removed(self, path: str) -> None:
        with suppress(OSError):
            self.fs.rm_file(path)

    def _won(self, attempt: str) -> bool:
        """Whether this process was the first to claim an attempt."""
        mine = f"{uname().nodename}-{getpid()}-{uuid4().hex}"
        try:
            with answered(), self.fs.open(f"{attempt}/claim", "xb") as file:
                file.write(mine.encode())
            return True
        except FileExistsError:
            return False
        except (NotImplementedError, ValueError):  # a storage that makes no file exclusively
            pass
        if any(name.startswith("claim") for name in self._names(attempt)):
            return False
        self._put(f"{attempt}/claim-{mine}", b"")
        time.sleep(SETTLED)
        return min(n for n in self._names(attempt) if n.startswith("claim")) == f"claim-{mine}"

    def _tried(self, ask: Callable[[], Any]) -> Any:
        for pause in PAUSES:
            try:
                with answered():
                    return ask()
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as e:
                log.info("%s: %s; trying again in %g s", self.root, e, pause)
                time.sleep(pause)
        with answered():
            return ask()


def names(fs: Any, folder: str) -> list[str]:
    """What lies in a folder of a storage, now."""
    fs.invalidate_cache()
    try:
        with answered():
            return [path.rstrip("/").rpartition("/")[2] for path in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return []


def mirrored(run: AnyRun, site: Site, dataset: Dataset | None, alive: Callable[[], None]) -> Iterator[Event]:
    """`execute` in a folder of this attempt's own, that storage has a mirror of: brought before, carried after."""
    with TemporaryDirectory(prefix="perdure-", ignore_cleanup_errors=True) as scratch:
        here = replace(site, home=scratch, storage="")
        mirror = _of_run(run.id, here, site.storage)
        carry = _Carry(mirror, alive)
        try:
            mirror.pull()
            if mirror.damaged:  # a checkpoint too, which a finished run's numbers do not need
                unseal_damaged(here.folder(run))
            if finished(run, here):
                yield from told(run, here)
                return
            if isinstance(run, Run) and run.start:
                _of_run(run.start, here, site.storage).pull()
            for problem in mirror.damaged:
                yield Repaired(run.id, f"{problem}; the run goes on from what is whole")
            attempt = mirror.claim()
            if attempt > 1:  # the same number on this machine
                here.folder(run).mkdir(parents=True, exist_ok=True)
                (here.folder(run) / f"attempt-{attempt - 1:04d}").touch()
            for event in execute(run, here, dataset, carry):
                if not (isinstance(event, Failed) and event.kind == "taken"):
                    mirror.push()
                yield event
        except Fenced as e:
            yield Failed(run.id, "taken", f"{e}: somebody else is making this run now")
        except (OSError, Damaged) as e:
            yield Failed(run.id, "error", f"storage {site.storage}: {type(e).__name__}: {e}")


class _Carry:
    """Shows that a run is alive, and carries a checkpoint as soon as it is there."""

    def __init__(self, mirror: Mirror, alive: Callable[[], None]):
        self.mirror, self.alive, self.looked, self.changed = mirror, alive, time.monotonic(), 0

    def __call__(self) -> None:
        self.alive()
        if time.monotonic() - self.looked < CHECKED:
            return
        changed = self.mirror.folder.stat().st_mtime_ns  # of the folder: something has come or gone
        if changed != self.changed:
            self.changed = changed
            self.mirror.push()
        self.looked = time.monotonic()


def look(site: Site) -> None:
    """Raises ValueError where nothing can be carried to storage: before there is something to carry."""
    if site.storage:
        expect_storage(site.storage, write=True)


def fetch(runs: Sequence[str], site: Site, checkpoints: bool = False) -> None:
    """Bring what storage knows of runs, by their ids, to the local copy; nothing where results lie in a folder."""
    if not site.storage:
        return

    def one(id: str) -> None:
        _of_run(id, site, site.storage).pull(lambda name: checkpoints or not name.startswith("checkpoint-"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, runs))  # raises what went wrong


def bring_all(id: str, here: Site, url: str) -> dict[str, list[str]]:
    """Bring all of the runs whose ids begin so, and commands, with every file; what is damaged in storage, by run."""
    lost: dict[str, list[str]] = {}
    site = replace(here, storage=url)
    for name in (n for n in _listed(site, "runs") if n.startswith(id)):
        of = _of_run(name, here, url)
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
        _of_run(run.id, site, site.storage).set_aside()


def bring_back(run: AnyRun, site: Site) -> None:
    if site.storage:
        _of_run(run.id, site, site.storage).bring_back()


def drop_aside(run: AnyRun, site: Site) -> None:
    if site.storage:
        _of_run(run.id, site, site.storage).drop_aside()


def _of_run(id: str, here: Site, url: str) -> Mirror:
    return Mirror(here.runs / id, f"{url}/runs/{id}")


def _counterpart(folder: Path, site: Site) -> Mirror:
    return Mirror(folder, f"{site.storage}/{folder.relative_to(site.home).as_posix()}")


def _listed(site: Site, kind: str) -> list[str]:
    from fsspec.core import url_to_fs

    expect_storage(site.storage)
    fs, root = url_to_fs(site.storage)
    return names(fs, f"{root}/{kind}")
