"""A folder of this machine and its counterpart in remote storage, at an fsspec address.

A folder there holds one more for every attempt. An attempt writes to its own alone, under names that hold a digest of
the content, and writes a manifest last, which lists the files of its state. So nobody reads half a state, and an
attempt that was taken over can harm nothing of the newer one's, whatever it still writes.
"""

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from os import getpid, uname
from pathlib import Path
from typing import Any
from uuid import uuid4

from .atomic import write
from .checkpoints import Fenced
from .locations import absolute
from .remote_access import answered
from .sealed import Damaged

PAUSES = (0.2, 1.0, 5.0)  # seconds before storage that failed is asked again


SETTLED = 1.0  # seconds in which a storage shows to everybody what was written


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
