"""Tensors over a file: what is asked for is read then, and the system forgets it where memory is short."""

import mmap
import warnings
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Filed:
    """Where an array lies in a file, in C order, and how the file was when it was looked at."""

    path: str
    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: str
    stamp: tuple[int, ...]

    @staticmethod
    def of(path: Path) -> "Filed":
        """The array of a .npy file. Raises ValueError, EOFError or OSError where it is none, or not in C order."""
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
            raise ValueError("it is not one array in C order; save np.ascontiguousarray(array) with np.save")
        return Filed(str(path.absolute()), array.offset, array.shape, str(array.dtype), stamp(path))

    @property
    def present(self) -> bool:
        """Whether this machine has the file, as it was."""
        path = Path(self.path)
        return path.is_file() and stamp(path) == self.stamp

    def shaped(self, *shape: int) -> "Filed":
        return replace(self, shape=shape)


class Mapped(Tensor):
    """A tensor whose values stay in their file. It cannot be written to; what is computed from it is a plain tensor.

    Where the file is changed or cut while it is mapped, nobody is told.
    """

    filed: Filed
    pages: mmap.mmap
    __torch_function__ = torch._C._disabled_torch_function_impl  # as nn.Parameter has it  # pyright: ignore

    @staticmethod
    def __new__(cls, filed: Filed) -> "Mapped":
        with Path(filed.path).open("rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        pages.madvise(mmap.MADV_RANDOM)  # batches are shuffled: what lies beside a sample is not asked for next
        array = np.frombuffer(pages, filed.dtype, prod(filed.shape), filed.offset).reshape(filed.shape)
        x = read_only(array).as_subclass(cls)
        x.filed, x.pages = filed, pages
        return x

    def gathered(self, rows: Tensor) -> Tensor:
        """Copies of the samples at `rows` (B,). All are asked for before the first is waited for: disks do much at
        once, and read a batch ten times as fast for it."""
        size = self.element_size() * prod(self.shape[1:])
        for row in rows.tolist():
            start = self.filed.offset + row * size
            page = start - start % mmap.PAGESIZE
            self.pages.madvise(mmap.MADV_WILLNEED, page, start + size - page)
        return self.index_select(0, rows)


def gathered(x: Tensor, rows: Tensor) -> Tensor:
    """Copies of the samples at `rows` (B,), on the device of the rows."""
    return x.gathered(rows.cpu()).to(rows.device) if isinstance(x, Mapped) else x.index_select(0, rows)


def read_only(array: np.ndarray) -> Tensor:
    """A tensor over memory that must not be written to; torch would, without a word, or crash."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def stamp(path: Path) -> tuple[int, ...]:
    """Of a file: its bytes, and when its content and its entry were changed, in ns. No two contents share one."""
    known = path.stat()
    return known.st_size, known.st_mtime_ns, known.st_ctime_ns
