"""A run's folder: checkpoints that are atomic, checked and fenced, and which attempt may write."""

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import torch

KEPT = 2  # the newest may be the one that was being written when the machine died
log = logging.getLogger(__name__)


class Fenced(RuntimeError):
    """A newer attempt has taken this run over; this one must not write any more."""


class Store:
    """Checkpoints of one run, in one folder that every machine sees.

    A file is the SHA-256 of its content, a line break, and what `torch.save` wrote; it appears under its
    name at once or never. Two attempts never share a file: an attempt's number is part of every name.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def claim(self) -> int:
        """The number of a new attempt; from now on no older attempt can save."""
        self.folder.mkdir(parents=True, exist_ok=True)
        attempt = self.newest() + 1
        while True:
            try:
                os.close(os.open(self.folder / f"attempt-{attempt:04d}", os.O_CREAT | os.O_EXCL))
                return attempt
            except FileExistsError:
                attempt += 1

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
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        first, then = place or (checkpoint["experience"], checkpoint.get("step", 0))
        self.guard(attempt)
        write(
            self.folder / f"checkpoint-{first:05d}-{then:09d}-{attempt:04d}.pt",
            hashlib.sha256(content).hexdigest().encode(),
            content,
        )
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, if there is one."""
        for path in self._files():
            digest, _, content = path.read_bytes().partition(b"\n")
            if hashlib.sha256(content).hexdigest().encode() == digest:
                return torch.load(io.BytesIO(content), weights_only=True)
            log.warning("checkpoint %s is corrupt; going on from the one before it", path)
        return None

    def clear(self) -> None:
        """Forget all checkpoints."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)


def write(path: Path, *parts: bytes | memoryview) -> None:
    """The parts as lines of a file that is there whole or not at all, even where the machine dies."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for n, content in enumerate(parts):
                file.write(b"\n" if n else b"")
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
