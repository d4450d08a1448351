"""Where samples come from that nobody has yet: sources, and what arrives from them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import checked
from .dataset import DataError


@dataclass(frozen=True, eq=False)
class Arrival:
    """Samples that have come together, whole and readable."""

    id: str  # what it is remembered by: it is learned once, however often it is told of
    name: str  # what it is called
    x: np.ndarray  # (N, ...) uint8 in [0, 255], images as (N, C, H, W); or float32
    y: np.ndarray  # (N,) whole numbers, or texts


@dataclass(frozen=True)
class SetAside:
    """What has come and cannot be learned from."""

    id: str
    name: str
    reason: str


Item = Arrival | SetAside | None  # None: nothing has come since the last look


class LiveSource(ABC):
    """Where arrivals come from. Subclasses are frozen dataclasses.

    What a source owes is `perdure.testing.sources.SourceSuite`.
    """

    @abstractmethod
    def arrivals(self, seen: Collection[str]) -> Iterator[Item]:
        """What comes, in order; each arrival is read when it is asked for and not before.

        seen: ids of what has been learned or set aside already. It grows while this goes on. A source may leave these
        out; whoever asks leaves them out anyway. Where nothing has come it yields None, and whoever asks waits a
        moment, or stops. Where nothing will come any more it ends.
        """


@dataclass(frozen=True)
class Generated(LiveSource):
    """A Python generator function of `(x, y)` or `(id, x, y)`, and None where it has nothing at the moment.

    It is called afresh whenever a stream is gone on with: what it yields again is known by its id, or without one by
    its content, and left out.
    """

    make: Callable[[], Iterator[Any]]

    def arrivals(self, seen):
        for n, given in enumerate(self.make()):
            if given is None:
                yield None
            elif not isinstance(given, tuple) or len(given) not in (2, 3):
                raise TypeError(
                    f"expected (x, y), (id, x, y) or None from {self.make.__name__}, got {type(given).__name__}"
                )
            else:
                x, y = map(np.asarray, given[-2:])
                id = str(given[0]) if len(given) == 3 else content(x, y)
                yield arrival(id, id if len(given) == 3 else f"arrival {n + 1}", x, y)


def arrival(id: str, name: str, x: np.ndarray, y: np.ndarray) -> Arrival | SetAside:
    """The arrival, or why it is none."""
    try:
        if not len(y):
            raise DataError(f"{name} is empty: expected samples")
        x = checked(x, y, "", name)
        if y.dtype.kind not in "iubOUS":
            raise DataError(f"labels of {name} must be whole numbers or texts, got {y.dtype}")
    except (DataError, TypeError) as e:
        return SetAside(id, name, str(e))
    return Arrival(id, name, x, y.astype(str if y.dtype.kind in "OSU" else np.int64))


def content(*arrays: np.ndarray) -> str:
    """What arrays without a name of their own are remembered by."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).data)
    return digest.hexdigest()
