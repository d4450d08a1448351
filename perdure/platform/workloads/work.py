"""What an attempt at a run does, whatever kind of run it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
class Kind:
    """What runs of one kind do in their own way. A run is a Run or a MetaRun."""

    work: Callable[..., Work]  # of a run, its data, what is called after every step, and where
    refuse: Callable[..., str]  # raises ValueError for a run that cannot work with its data there; says its doubts
    curves: Callable[[], Callable[[Row], dict[str, float]]]  # called with rows in order, gives a tracker's points
    tables: Callable[[Sequence[Row]], dict[str, str]]  # of a finished run, CSV texts by file name
    compared: Callable[..., Any]  # a Comparison of outcomes
    report: Callable[[Any], str]  # its report, as HTML
    line: Callable[..., str]  # what to type for runs of some methods from some seeds
