"""Keeping a model current: what arrives is learned, judged, kept, tracked, and registered as a new version."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from ..figures import live
from ..runs.journal import Row
from ..runs.record import picture
from ..runs.workspace import PICTURES
from .model_registry import Registry
from .pipeline import Pair
from .settings import Following
from .state import Kept

DRAWING = 10.0  # seconds between two drawings, of which the last is always made


@dataclass(frozen=True)
class Followed:
    """What a stream has come to so far."""

    following: Following
    folder: str
    rows: list[Row] = field(repr=False)
    asides: list[Row] = field(repr=False)
    stopped: bool = False  # by an interrupt
    undelivered: str = ""  # why MLflow does not have all of it

    @property
    def accuracy(self) -> dict[str, float]:
        """Of every class, on all that was held out of it so far."""
        classes = self.rows[-1]["classes"] if self.rows else {}
        return {label: right / count for label, (count, right) in classes.items()}


Hear = Callable[[str, Any], None]  # what is told as it happens: "arrival" and its row, "aside" and its line, "said"


@dataclass
class Session:
    """One process at work on a stream, from where it is found until it is to stop."""

    kept: Kept
    following: Following
    registry: Registry | None
    hear: Hear
    _rows: int = 0  # told so far
    _asides: int = 0
    _drawn: float = 0.0  # when
    _undrawn: bool = True

    def made(self, pair: Callable[[], Pair], arrivals: int | None) -> Followed:
        stopped = False
        self._rows, self._asides = len(self.kept.journal.rows()), len(self.kept.asides())
        if self._rows:
            self.hear("said", f"goes on after {self._rows} arrivals learned")
        self._undrawn = not (self.kept.path / PICTURES).exists()
        if self.registry is not None:
            self.registry.greet()
        self._deliver("RUNNING")
        try:
            if arrivals is None or self._rows < arrivals:
                with closing(pair()) as both:
                    self._learn(both, arrivals)
        except KeyboardInterrupt:
            stopped = True
        except BaseException:
            self._end("FAILED")
            raise
        self._tell(delivered=False)
        self._end("KILLED" if stopped else "FINISHED")
        rows, asides = self.kept.journal.rows(), self.kept.asides()
        undelivered = self.registry.problem if self.registry else ""
        return Followed(self.following, str(self.kept.path), rows, asides, stopped, undelivered)

    def _learn(self, both: Pair, arrivals: int | None) -> None:
        both.go_on()
        self._tell()
        for item in both.items() if arrivals is None or self._rows < arrivals else ():
            both.take(item)
            self._tell()
            if arrivals is not None and self._rows >= arrivals:
                return

    def _tell(self, delivered: bool = True) -> None:
        """What is new in the folder, to whoever listens and to MLflow."""
        asides, rows = self.kept.asides(), self.kept.journal.rows()
        for aside in asides[self._asides :]:
            self.hear("aside", aside)
        for row in rows[self._rows :]:
            self.hear("arrival", row)
        fresh, self._rows, self._asides = len(rows) > self._rows, len(rows), len(asides)
        self._undrawn = self._undrawn or fresh
        if fresh and delivered:
            self._deliver("RUNNING")
            if time.monotonic() - self._drawn > DRAWING:
                self._draw(rows)

    def _end(self, status: str) -> None:
        self._deliver(status)
        if self._undrawn:
            self._draw(self.kept.journal.rows())

    def _deliver(self, status: str) -> None:
        if self.registry is not None:
            for said in self.registry.deliver(status):
                self.hear("said", said)

    def _draw(self, rows: list[Row]) -> None:
        self._drawn, self._undrawn = time.monotonic(), False
        for name, figure in live.drawn(rows).items() if rows else ():
            picture(self.kept.path / PICTURES, name, figure)
