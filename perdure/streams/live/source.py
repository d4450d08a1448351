"""Where samples come from that nobody has yet: sources, and what arrives from them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets.arrays import checked
from ..datasets.dataset import DataError
from ..storage.folder_entries import shown


@dataclass(frozen=True, eq=False)
class Arrival:
    """Samples that have come together, whole and readable."""

    id: str  # what it is remembered by: it is learned once, however often it is told of
    name: str  # what it is called
    x: np.ndarray  # (N, ...) uint8 in [0, 255], images as (N, C, H, W); or float32
    y: np.ndarray  # (N,) whole numbers, or texts
    columns: tuple[str, ...] = ()  # what the numbers of a sample (D,) are called, where that is known


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
        made = self.make()
        if not isinstance(made, Iterable):
            raise TypeError(f"expected {self.make.__name__} to yield arrivals, got {type(made).__name__} from it")
        for n, given in enumerate(made):
            yield None if given is None else _received(given, f"arrival {n + 1}")


def arrival(id: str, name: str, x: np.ndarray, y: np.ndarray, columns: tuple[str, ...] = ()) -> Arrival | SetAside:
    """The arrival, or why it is none."""
    name = shown(name)
    try:
        if y.ndim == 1 and not len(y):
            raise DataError(f"{name} is empty: expected samples")
        x = checked(x, y, "", name)
        if not x[0].size:
            raise DataError(f"samples of {name} hold no number: expected x (N, ...), got {x.shape}")
        if y.dtype.kind not in "iubOUS":
            raise DataError(f"labels of {name} must be whole numbers or texts, got {y.dtype}")
        if y.dtype.kind == "u" and y.max() > np.iinfo(np.int64).max:
            raise DataError(f"labels of {name} must be whole numbers below 2^63, got {y.max()}")
    except (DataError, TypeError) as e:
        return SetAside(id, name, str(e))
    return Arrival(id, name, x, y.astype(str if y.dtype.kind in "OSU" else np.int64), columns)


def verified(given: Any) -> Item:
    """What a source tells of, with arrivals looked at: a source of one's own may have made them itself."""
    if isinstance(given, Arrival):
        try:
            parts = np.asarray(given.x), np.asarray(given.y)
            made = arrival(str(given.id), str(given.name), *parts, tuple(map(str, given.columns)))
        except Exception as e:  # of arrays that are none
            made = SetAside(str(given.id), str(given.name), f"its samples cannot be read: {_words(e)}")
        return made
    if given is None or isinstance(given, SetAside):
        return given
    return _foreign(given, "Arrival, SetAside or None")


def _received(given: Any, name: str) -> Item:
    """What a generator function yields."""
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        return _foreign(given, "(x, y), (id, x, y) or None")
    id = str(given[0]) if len(given) == 3 else ""
    try:
        x, y = map(np.asarray, given[-2:])
        id = id or content(x, y)
        return arrival(id, id if len(given) == 3 else name, x, y)
    except Exception as e:  # of arrays that are none, as samples of unequal shapes
        id = id or hashlib.sha256(repr(given).encode()).hexdigest()
        return SetAside(id, id if len(given) == 3 else name, f"x and y cannot be read as arrays: {_words(e)}")


def _foreign(given: Any, expected: str) -> SetAside:
    what = type(given).__name__
    what = f"a {what} of {len(given)}" if isinstance(given, tuple) else f"a {what}"
    id = hashlib.sha256(repr(given).encode()).hexdigest()
    return SetAside(id, what, f"expected {expected} from the source, got {what}")


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def content(*arrays: np.ndarray) -> str:
    """What arrays without a name of their own are remembered by."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).data)
    return digest.hexdigest()
