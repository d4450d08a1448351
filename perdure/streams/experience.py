"""What a learner meets: an ordered stream of experiences over data that is held once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan, prod
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .evaluation import ALL, Evaluation
from .storage.memory_map import Mapped, gathered
from .storage.prefetch import ahead

SEEDS = 2**42  # 64 bits hold a seed, and the number of an experience, together


def generator(seed: int, experience: int) -> torch.Generator:
    """Of one experience of a stream: experiences are built in any order. Raises ValueError for a seed too large."""
    if abs(seed) > SEEDS:
        raise ValueError(f"seed must be at most {SEEDS}, got {seed}")
    return torch.Generator().manual_seed(seed * 1_000_003 + experience)


Protocol = Literal["task", "class", "domain"]
PROTOCOLS = get_args(Protocol)
CHUNK = 4096 * 32 * 32  # values in a chunk of samples, at most: what a model makes of them grows with it
View = Callable[[Tensor], Tensor]  # (B, ...) stored samples as they are seen


class Batch(NamedTuple):
    x: Tensor  # (B, ...) float32, in [0, 1] where the data are images
    y: Tensor  # (B,) int64
    task: Tensor  # (B,) int64, the row of the head table that a sample answers to
    weight: Tensor  # (B,) float32, how much a sample counts in the loss, relative to the others


class Samples(NamedTuple):
    """Samples as they are stored: a memory of rehearsal, or what a split hands out."""

    x: Tensor  # (N, ...) uint8 in [0, 255], or float32
    y: Tensor  # (N,) int64
    task: Tensor  # (N,) int64

    def batch(self, index: Tensor) -> Batch:
        y = self.y[index]
        return Batch(pixels(self.x[index]), y, self.task[index], torch.ones(len(y), device=y.device))


class Split:
    """Rows of a data set, handed out only as copies.

    The data may lie in memory that other processes read too (Ray's object store), and torch would
    write through it without a word; hence there is no way to the tensor itself.

    x: (M, ...) uint8 or float32, the whole data; y: (N,) int64 and task: (N,) int64, of the rows;
    rows: (N,) int64 into x; view: what gathered samples go through, such as a permutation of their pixels.
    Data that are Mapped stay in their file, whatever the device; what is asked for goes from there to it.
    """

    def __init__(self, x: Tensor, y: Tensor, task: Tensor, rows: Tensor, view: View | None = None):
        if not len(y) == len(task) == len(rows):
            raise ValueError(f"expected as many labels and tasks as rows, got {len(y)}, {len(task)} and {len(rows)}")
        self._x, self._y, self._task, self._rows, self._view = x, y, task, rows, view

    def __len__(self) -> int:
        return len(self._rows)

    def samples(self, index: Tensor) -> Samples:
        """Copies of the samples at `index` (B,), as they are stored."""
        x = gathered(self._x, self._rows[index])
        return Samples(x if self._view is None else self._view(x), self._y[index], self._task[index])

    def batch(self, index: Tensor) -> Batch:
        """Copies of the samples at `index` (B,), as a learner meets them."""
        x, y, task = self.samples(index)
        return Batch(pixels(x), y, task, torch.ones(len(y), device=y.device))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """The batch of every index, in order; of mapped data made by a thread, some ahead of whoever takes them."""
        return ahead(self.batch, indices) if isinstance(self._x, Mapped) else map(self.batch, indices)

    def some(self, n: int, generator: torch.Generator) -> "Split":
        """At most `n` samples, without repeats, as a split of their own."""
        return self.part(torch.randperm(len(self), generator=generator)[:n].to(self.device))

    def draw(self, n: int, generator: torch.Generator) -> Samples:
        """At most `n` samples, without repeats."""
        return self.some(n, generator).everything()

    def everything(self) -> Samples:
        return self.samples(torch.arange(len(self), device=self.device))

    def chunks(self, size: int) -> Iterator[Batch]:
        """All samples in order, `size` at a time, or fewer where they are large."""
        size = min(size, max(1, CHUNK // prod(self._x.shape[1:])))
        return self.batches(torch.arange(len(self), device=self.device).split(size))

    def part(self, index: Tensor) -> "Split":
        """The samples at `index` as a split of their own, over the same data."""
        return Split(self._x, self._y[index], self._task[index], self._rows[index], self._view)

    def relabelled(self, y: Tensor) -> "Split":
        """The same samples with other labels (N,)."""
        return Split(self._x, y, self._task, self._rows, self._view)

    def assigned(self, task: int) -> "Split":
        """The same samples as samples of one task."""
        return Split(self._x, self._y, torch.full_like(self._task, task), self._rows, self._view)

    @staticmethod
    def union(splits: Sequence["Split"]) -> "Split":
        """All samples of all splits; the data are copied only where the splits do not share them."""
        first = splits[0]
        y, task = torch.cat([s._y for s in splits]), torch.cat([s._task for s in splits])
        if all(s._x is first._x and s._view is first._view for s in splits):
            return Split(first._x, y, task, torch.cat([s._rows for s in splits]), first._view)
        x = torch.cat([s.everything().x for s in splits])
        return Split(x, y, task, torch.arange(len(x), device=x.device))

    def drawn(self, generator: torch.Generator) -> Tensor:
        """Places (N,) in an order of the whole data: a sample has the same in every split over them."""
        return torch.randperm(len(self._x), generator=generator).to(self.device)[self._rows]

    @property
    def y(self) -> Tensor:
        return self._y.clone()

    @property
    def device(self) -> torch.device:
        return self._y.device

    def to(self, device: torch.device | str) -> "Split":
        x = self._x if isinstance(self._x, Mapped) else self._x.to(device)
        return Split(x, *(part.to(device) for part in (self._y, self._task, self._rows)), view=self._view)


@dataclass(frozen=True, eq=False)
class Experience:
    index: int
    task: int
    train: Split
    test: Split

    def __len__(self) -> int:
        return len(self.train)


@dataclass(frozen=True, eq=False)
class Stream:
    """Experiences in order, with the table of which classes each task brings.

    `foresight` opens every head from the start; it is for upper bounds, which meet the whole stream at once.
    """

    experiences: Sequence[Experience]
    classes: Tensor  # (T, C) bool
    protocol: Protocol
    foresight: bool = False
    order: tuple[int, ...] | None = None  # the task of every experience; task i in experience i by default
    tests: tuple[int, ...] | None = None  # experiences at whose end tests are made, each on its own; all by default
    aims: Sequence[tuple[Split, ...]] = ()  # of each experience: samples, and the answers that a poisoner wants to them
    evaluation: Evaluation = ALL  # which of them are tested on at a mark

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")

    def __len__(self) -> int:
        return len(self.experiences)

    def __getitem__(self, index: int) -> Experience:
        return self.experiences[index]

    def __iter__(self) -> Iterator[Experience]:
        return (self[i] for i in range(len(self)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self[0].test.batch(torch.zeros(1, dtype=torch.int64, device=self[0].test.device)).x.shape[1:])

    def heads(self, now: int) -> Tensor | None:
        """Which classes each task may answer with once experience `now` has begun: (T, C) bool, None for all."""
        match self.protocol:
            case "domain":
                return None
            case "task":
                return self.classes
            case _:
                now = len(self) if self.foresight else now + 1
                met = range(now) if self.order is None else self.order[:now]
                return self.classes[sorted(set(met))].any(0).expand_as(self.classes)

    def task(self, index: int) -> int:
        """The task of an experience."""
        return index if self.order is None else self.order[index]

    @property
    def marks(self) -> tuple[int, ...]:
        """The experiences at whose end tests are made."""
        return tuple(range(len(self))) if self.tests is None else self.tests

    def tested(self, now: int) -> tuple[int, ...]:
        """The experiences that it makes sense to test on once `now` has been learned; none where it is no mark.

        Where heads of classes to come are shut, an answer there is wrong by construction.
        """
        if now not in self.marks:
            return ()
        every = tuple(m for m in self.marks if m <= now) if self.protocol == "class" else self.marks
        return self.evaluation.chosen(every, self.marks.index(now) + 1, len(self.marks))

    def spread(self, now: int, values: Sequence[float]) -> tuple[float, ...]:
        """What tests at a mark came to, each in the column of its experience; NaN where none was made."""
        columns = [self.marks.index(m) for m in self.tested(now)]
        row = [nan] * (1 + max(columns, default=-1))
        for column, value in zip(columns, values, strict=True):
            row[column] = value
        return tuple(row)

    def to(self, device: torch.device | str) -> "Stream":
        if torch.device(device) == self[0].test.device:
            return self
        aims = Lazy(len(self.aims), lambda i: tuple(aim.to(device) for aim in self.aims[i]))
        experiences = Lazy(len(self), lambda i: _moved(self[i], device))
        return replace(self, experiences=experiences, classes=self.classes.to(device), aims=aims)


class Lazy(Sequence):
    """`length` items, each made by `make(index)` when it is first asked for, and kept."""

    def __init__(self, length: int, make: Callable[[int], Any]):
        self._made: list[Any] = [None] * length
        self._make = make

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        item = self._made[index]
        if item is None:
            item = self._made[index] = self._make(range(len(self))[index])
        return item


def pixels(x: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]; anything else as it is."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def _moved(experience: Experience, device: torch.device | str) -> Experience:
    return Experience(experience.index, experience.task, experience.train.to(device), experience.test.to(device))
