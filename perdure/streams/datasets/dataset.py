"""A data set: samples to train on, samples to test on, and the names of their classes."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import reading
from ..storage.directories import Places
from ..storage.memory_map import Mapped

CHUNK = 1 << 24  # values that are looked at together


class DataError(ValueError):
    """The data were found, and are not fit to learn from."""


class Part(NamedTuple):
    x: Tensor  # (N, ...) uint8 in [0, 255], images as (N, C, H, W); or float32
    y: Tensor  # (N,) int64 in [0, C)


class Source(ABC):
    """Where a data set comes from. Subclasses are frozen dataclasses: text and numbers only."""

    @abstractmethod
    def load(self, places: Places) -> "Dataset":
        """Read the data. Raises DataNotFound or DataError."""

    def loaded(self, places: Places) -> "Dataset":
        """The data as `load` reads them, and whatever is wrong with them as DataError or DataNotFound."""
        with reading(f"the data of {self!r} cannot be read", "repair the files, or name others", DataError):
            return self.load(places)

    def paths(self, places: Places) -> Sequence[Path]:
        """All files that the content depends on, the first of them as a user names it.

        Empty where that is not known, and where the data come with the code. Raises DataNotFound.
        """
        return ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked once, where it is made: every class has samples of either kind, every value is finite.

    experience: of (train, test) samples, (N,) int64 each, where the data themselves say which
    experience a sample belongs to. known: the fingerprint of data that have been checked before.

    Raises DataError, naming the first sample at fault.
    """

    train: Part
    test: Part
    classes: tuple[str, ...]
    experience: tuple[Tensor, Tensor] | None = None
    known: str = ""

    def __post_init__(self):
        for name, part in (("training", self.train), ("test", self.test)):
            _check(part, name, self.classes)
            if not self.known:
                _refuse_gaps(part.x, name)
        if self.train.x.shape[1:] != self.test.x.shape[1:] or self.train.x.dtype != self.test.x.dtype:
            kinds = [f"{tuple(p.x.shape[1:])} {p.x.dtype}" for p in (self.train, self.test)]
            raise DataError(f"expected training and test samples of one shape and type, got {kinds[0]} and {kinds[1]}")
        for part, experience in zip((self.train, self.test), self.experience or (), strict=False):
            if experience.shape != part.y.shape:
                raise DataError(f"expected one experience for each of {len(part.y)} samples, got {len(experience)}")

    def to(self, device: torch.device | str) -> "Dataset":
        """The data on another device: before a stream is made of them, so that all experiences share one copy.

        Mapped samples stay where they are.
        """

        def moved(x: Tensor) -> Tensor:
            return x if isinstance(x, Mapped) else x.to(device)

        train, test = (Part(moved(p.x), p.y.to(device)) for p in (self.train, self.test))
        experience = self.experience and (self.experience[0].to(device), self.experience[1].to(device))
        return replace(self, train=train, test=test, experience=experience)

    @cached_property
    def fingerprint(self) -> str:
        """`sha256`, reckoned once."""
        return self.known or self.sha256()

    def sha256(self) -> str:
        """Fingerprint of the content: equal for equal data, wherever they were found."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for tensor in (*self.train, *self.test, *(self.experience or ())):
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def stratified(
    groups: Tensor, share: float, seed: int, naming: Callable[[int], str] = "sample {}".format
) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to test on: of every group (N,), `share` is tested on, one sample at least.

    naming: what a sample is called in an error.
    """
    if not 0 < share < 1:
        raise ValueError(f"test_share must be above 0 and below 1, got {share}")
    generator = torch.Generator().manual_seed(seed)
    tested = torch.zeros(len(groups), dtype=torch.bool)
    for group in groups.unique():
        rows = (groups == group).nonzero().flatten()
        if len(rows) == 1:
            raise DataError(
                f"{naming(int(rows[0]))} is the only one of its kind: a class (in each of its experiences) needs two, "
                "one to train on and one to test on; add samples, leave the class out, or give test data of your own"
            )
        n = min(max(round(share * len(rows)), 1), len(rows) - 1)
        tested[rows[torch.randperm(len(rows), generator=generator)[:n]]] = True
    return (~tested).nonzero().flatten(), tested.nonzero().flatten()


def _check(part: Part, name: str, classes: tuple[str, ...]) -> None:
    x, y = part
    if x.dtype not in (torch.uint8, torch.float32) or y.dtype != torch.int64:
        raise DataError(f"expected {name} x as uint8 or float32 and y as int64, got {x.dtype} and {y.dtype}")
    if x.ndim < 2 or y.shape != x.shape[:1]:
        raise DataError(f"expected {name} x (N, ...) and y (N,), got {tuple(x.shape)} and {tuple(y.shape)}")
    outside = ((y < 0) | (y >= len(classes))).nonzero().flatten()
    if len(outside):
        at = int(outside[0])
        raise DataError(f"{name} sample {at} has label {int(y[at])}; expected 0 to {len(classes) - 1}")
    counts = torch.bincount(y, minlength=len(classes)).tolist()
    if 0 in counts:
        empty = counts.index(0)
        raise DataError(f"class {empty} ({classes[empty]}) has no {name} sample; add some, or leave the class out")


def _refuse_gaps(x: Tensor, name: str) -> None:
    if not x.is_floating_point():
        return
    size = max(1, CHUNK // prod(x.shape[1:]))
    for n, some in enumerate(x.split(size)):
        if not some.isfinite().all():
            at = n * size + int((~some.isfinite()).flatten(1).any(1).nonzero()[0])
            raise DataError(f"{name} sample {at} holds NaN or an infinity; repair it or leave it out")
