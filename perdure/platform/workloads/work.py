"""What an attempt at a run does, whatever kind of run it is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..runs.journal import Row


@dataclass(frozen=True, eq=False)
class Step:
    """A place that a run has come to, and can be gone on with from."""

    place: tuple[int, int]  # in the order in which they are come to
    checkpoint: dict[str, Any]
    row: Row | None = None  # of the journal, at a milestone
    seconds: float = 0.0  # since the milestone before
    figures: Mapping[str, Any] = field(default_factory=dict)  # Matplotlib figures, by the name of their file
    share: float = 0.0  # between milestones, of all that is to be done
    where: str = ""  # the same in words


class Work(Protocol):
    length: int  # in milestones

    def steps(self, checkpoint: dict[str, Any] | None, due: Callable[[], bool]) -> Iterator[Step]:
        """From a checkpoint on to the end. due: says, step by step, where a checkpoint is wanted before a milestone."""
        ...


@dataclass(frozen=True)
class Workload:
    """How runs of one kind are made."""

    work: Callable[..., Work]  # of a run, its data, what is called after every step, and its workspace
    refuse: Callable[..., str]  # raises ValueError for a run that cannot work with its data there; returns its doubts
