"""What an executor tells of its runs, in plain data."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Started:
    run: str  # its id
    attempt: int
    where: str  # host and process
    resumed: bool
    experiences: int  # of the stream


@dataclass(frozen=True)
class Reached:
    """A milestone, now in the journal."""

    run: str
    row: dict[str, Any]  # the journal's line
    seconds: float | None  # spent on the experience; None where it was read from the journal of a finished run

    @property
    def place(self) -> int:
        """How many milestones came before it: experiences of a stream, or milestones of meta-learning."""
        return self.row["experience"] if "experience" in self.row else self.row["milestone"]


@dataclass(frozen=True)
class Finished:
    run: str
    again: bool  # whether it had been finished before


@dataclass(frozen=True)
class Failed:
    run: str
    kind: str  # user | diverged | disk | taken | lost | error
    message: str


@dataclass(frozen=True)
class Lost:
    """An attempt is gone; the run will be resumed elsewhere."""

    run: str
    reason: str


@dataclass(frozen=True)
class Kept:
    """A place between milestones can be gone on with."""

    run: str
    share: float  # of the run that is done
    where: str  # the same in words, as "experience 3 of 5, step 1,200 of 2,000"


@dataclass(frozen=True)
class Grouped:
    """Several runs that could be learned at once, whether they are, and why."""

    run: str  # the first of them
    runs: tuple[str, ...]
    together: bool
    why: str


@dataclass(frozen=True)
class Awaited:
    """Another command is making the run, and it will be read once it is made."""

    run: str


@dataclass(frozen=True)
class Repaired:
    """Something in a run's folder was not as it was written; the run goes on from what is whole, to the same bits."""

    run: str
    problem: str


Event = Started | Reached | Finished | Failed | Lost | Kept | Grouped | Awaited | Repaired
