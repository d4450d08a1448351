"""A run's folder: checkpoints that are atomic, checked and fenced, and which attempt may write."""

import hashlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch

from .atomic import whole

KEPT = 2  # the newest may be the one that was being written when the machine died
TORN = re.compile(r"-(\d{4})(?:\.pt|\.jsonl)?\.\d+\.part$")  # an attempt's file that is not whole yet
DIGEST = 64  # bytes of a SHA-256 in hexadecimal
LONG = 1 << 18  # bytes that are worth a thread
log = logging.getLogger(__name__)


class Fenced(RuntimeError):
    """A newer attempt has taken this run over; this one must not write any more."""


class Store:
    """Checkpoints of one run, in one folder that every machine sees.

    A file is the SHA-256 of its content, a line break, and what `torch.save` wrote; it appears under its
    name at once or never. Two attempts never share a file: an attempt's number is part of every name. So one
    that sleeps between asking whether it may write and writing harms nobody, however long it sleeps.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def claim(self) -> int:
        """The number of a new attempt; from now on no older attempt can save.

        What older ones were killed over is removed: a checkpoint that is half there only takes room.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        attempt = self.newest() + 1
        while True:
            try:
                os.close(os.open(self.folder / f"attempt-{attempt:04d}", os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                attempt += 1
        for torn in self.folder.glob(".*.part"):
            of = TORN.search(torn.name)
            if of and int(of[1]) < attempt:
                torn.unlink(missing_ok=True)
        return attempt

    def newest(self) -> int:
        return max((int(p.name[8:]) for p in self.folder.glob("attempt-*")), default=0)

    def guard(self, attempt: int) -> None:
        """Raises Fenced unless `attempt` is the newest."""
        newest = self.newest()
        if newest != attempt:
            raise Fenced(f"attempt {attempt} of {self.folder.name} was taken over by attempt {newest}")

    def save(self, checkpoint: dict[str, Any], attempt: int, place: tuple[int, int] | None = None) -> None:
        """Raises Fenced, or OSError where the disk is full; what was there before stays.

        place: orders checkpoints; by default their experience and step.
        """
        first, then = place or (checkpoint["experience"], checkpoint.get("step", 0))
        self.guard(attempt)
        path = self.folder / f"checkpoint-{first:05d}-{then:09d}-{attempt:04d}.pt"
        seal(path, checkpoint, lambda: self.guard(attempt))
        for old in self.files()[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, if there is one."""
        return next(self.each(), None)

    def each(self) -> Iterator[dict[str, Any]]:
        """The checkpoints that are whole, the newest first."""
        for path in self.files():
            checkpoint = opened(path)
            if checkpoint is not None:
                yield checkpoint
            else:
                log.warning("checkpoint %s is corrupt; going on from the one before it", path)

    def place(self) -> str:
        """How far the run has come, in an order of texts; empty where nothing is kept."""
        return max((path.name[:26] for path in self.files()), default="")

    def clear(self) -> None:
        """Forget all checkpoints."""
        for path in self.files():
            path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)


def seal(path: Path, value: dict[str, Any], allowed: Callable[[], object] = lambda: None) -> None:
    """Write a file that vouches for itself: a digest, and what `torch.save` makes of the value."""
    whole(path, partial(_digested, value), allowed)


def opened(path: Path) -> dict[str, Any] | None:
    """What was sealed; None where the file is corrupt."""
    kept = memoryview(path.read_bytes())
    content = kept[DIGEST + 1 :]
    if hashlib.sha256(content).hexdigest().encode() != kept[:DIGEST]:
        return None
    return torch.load(io.BytesIO(content), weights_only=True)


def _digested(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """Written and digested as it is serialised: no second copy of it is ever in memory."""
    digest = hashlib.sha256()
    file.write(b" " * DIGEST + b"\n")
    with ThreadPoolExecutor(1, "digest") as thread:
        both: Any = _Both(file, digest.update, thread)
        try:
            torch.save(checkpoint, both)
        except RuntimeError as e:  # of torch's, that has met ours
            raise both.problem or e from None
    file.seek(0)
    file.write(digest.hexdigest().encode())


class _Both(io.RawIOBase):
    """A file whose every part is told to somebody else too, at the same time where it is long."""

    def __init__(self, file: IO[bytes], tell: Callable[[bytes], object], thread: Executor):
        self._file, self._tell, self._thread = file, tell, thread
        self.problem: OSError | None = None  # of which torch says no more than that there is one

    def write(self, content: Any) -> int:
        if len(content) < LONG:
            self._tell(content)
            return self._written(content)
        telling = self._thread.submit(self._tell, content)
        try:
            return self._written(content)
        finally:
            telling.result()

    def _written(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as e:
            self.problem = e
            raise

    def flush(self) -> None:
        self._file.flush()
