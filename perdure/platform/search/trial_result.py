"""What a trial of a search has come to."""

from dataclasses import dataclass
from math import nan

from .space import Point


@dataclass(frozen=True)
class Tried:
    """One trial. status: finished, stopped (by a scheduler, or with the search) or failed."""

    number: int
    point: Point
    runs: tuple[str, ...]  # ids, one for each seed
    method: str  # its text, with the point's values in it
    milestones: int
    values: tuple[float, ...]  # of each objective, at its last milestone
    status: str
    problem: str = ""

    @property
    def reached(self) -> tuple[float, ...]:
        """Its values; NaN where it failed, when they are the worst there are, for schedulers to rank it by."""
        return (nan,) * len(self.values) if self.status == "failed" else self.values

    @property
    def settings(self) -> Point:
        """The point as a reader would write it."""
        return {name: value.removesuffix(".0") for name, value in self.point.items()}
