"""Where the samples of a data set are held: in memory where there is room, else in a file that is mapped.

The data set is the same, bit for bit.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..storage.directories import Places, known_caches
from ..storage.memory_map import Filed, Mapped
from .dataset import DataError, Dataset, Part

NAMES = ("train.npy", "test.npy")


@dataclass(frozen=True, eq=False)
class Draft:
    """Samples (N, ...) that are still to be made."""

    shape: tuple[int, ...]
    dtype: type
    chunks: Callable[[], Iterator[np.ndarray]]  # (n, ...) some at a time, in order

    @property
    def bytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def made(self) -> Tensor:
        x, at = np.empty(self.shape, self.dtype), 0
        for chunk in self.chunks():
            x[at : at + len(chunk)] = chunk
            at += len(chunk)
        return torch.from_numpy(x)

    def write(self, path: Path) -> None:
        """As a .npy file, on the disk when this returns."""
        with path.open("wb") as file:
            kind = np.lib.format.dtype_to_descr(np.dtype(self.dtype))
            about = {"descr": kind, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, about)
            for chunk in self.chunks():
                file.write(np.ascontiguousarray(chunk, self.dtype).data)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, eq=False)
class Holder:
    """The folder where one data set is kept when it does not fit into memory.

    key: all that its content depends on, as text: files with their stamps, and options.
    """

    places: Places
    name: str
    key: str

    @property
    def folder(self) -> Path:
        name = f"{self.name}-{hashlib.sha256(self.key.encode()).hexdigest()[:16]}"
        made = [folder for cache in known_caches() if (folder := cache / "mapped" / name / NAMES[-1]).exists()]
        return made[0].parent if made else self.places.maps / name

    def samples(self, drafts: Callable[[], Sequence[Draft]]) -> list[Tensor]:
        """The samples to train and to test on. drafts: asked for where they have not been made before.

        Raises DataError where they fit neither into memory nor on the disk.
        """
        if not self._made:
            parts = drafts()
            if sum(draft.bytes for draft in parts) <= self.places.room:
                return [draft.made() for draft in parts]
            with self._alone():
                if not self._made:
                    self._make(parts)
        return [self._mapped(self.folder / name) for name in NAMES]

    def dataset(self, train: Part, test: Part, classes: tuple[str, ...], experience=None) -> Dataset:
        """The data set of mapped samples, whose check and fingerprint, that read them all, are made once."""
        if not any(isinstance(part.x, Mapped) for part in (train, test)):
            return Dataset(train, test, classes, experience)
        note = self.folder / "sha256"
        if not note.exists():
            known = Dataset(train, test, classes, experience).sha256()
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = note.with_name(f"sha256-{os.getpid()}")
            draft.write_text(known)
            draft.replace(note)
        return Dataset(train, test, classes, experience, note.read_text())

    @property
    def _made(self) -> bool:
        return (self.folder / NAMES[-1]).exists()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process makes it, and all others wait; the lock of one that dies is free."""
        import fcntl

        self.places.maps.mkdir(parents=True, exist_ok=True)
        with self.folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self, parts: Sequence[Draft]) -> None:
        half = self.folder.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)  # of a process that died
        need, free = sum(draft.bytes for draft in parts), shutil.disk_usage(self.places.maps).free
        if need > free:
            raise DataError(
                f"expected {need / 1e9:.1f} GB of room in {self.places.maps} for data larger than memory, "
                f"found {free / 1e9:.1f}; make room, or name a larger disk by XDG_CACHE_HOME"
            )
        half.mkdir()
        try:
            for draft, name in zip(parts, NAMES, strict=True):
                draft.write(half / name)
            half.replace(self.folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _mapped(self, path: Path) -> Mapped:
        try:
            return Mapped(Filed.of(path))
        except (ValueError, EOFError, FileNotFoundError) as e:
            raise DataError(f"{path} is damaged ({e}); delete {self.folder}, it is made anew") from e
