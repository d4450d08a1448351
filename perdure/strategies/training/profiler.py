"""Where the time of a run goes: the loop says which phase begins, and a clock that listens adds up what each takes."""

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

PHASES = {
    "data": "the samples of a batch are gathered, and what the loop does between steps",
    "augment": "the strategy adds, replaces or perturbs samples",
    "forward": "outputs and their loss",
    "penalty": "the strategy's term of the loss",
    "backward": "gradients",
    "steer": "the strategy's hand on the gradients",
    "optimizer": "the weights move",
    "replay": "a step that was captured, from outputs to weights, in one go",
    "capture": "a step is captured",
    "consolidate": "the strategy makes what it carries on",
    "evaluate": "tests, and attacks in them",
    "log": "journal, checkpoint, pictures, and whatever else is done with a milestone",
}
STEP = ("data", "augment", "forward", "penalty", "backward", "steer", "optimizer", "replay", "capture")
KEPT = 40  # steps of each experience whose phases are kept one by one, for the chart; all are added up
PENDING = 20_000  # events of a device that wait for their times to be read


class Span(NamedTuple):
    experience: int
    phase: str
    start: float  # seconds since the first
    end: float


class Total(NamedTuple):
    calls: int
    seconds: float


@dataclass
class Clock:
    """Called with the name of every phase that begins, which ends the one before: no moment is counted twice or missed.

    On a GPU the times are the device's own, of events between its kernels; they are read when an experience has been
    learned (or after 20,000 of them), so that no step waits. It draws nothing and moves nothing: no number changes.
    """

    device: torch.device
    totals: dict[tuple[int, str], Total] = field(default_factory=dict)  # by experience and phase
    spans: list[Span] = field(default_factory=list)
    steps: int = 0
    _pending: list[tuple[int, str, Any]] = field(default_factory=list)  # phases that have begun, in order, and when
    _experience: int = -1  # -1 for tests before anything is learned
    _within: int = 0  # steps of the experience so far
    _over: bool = True  # the experience has been consolidated
    _at: float = 0.0  # where the last span ended

    def __call__(self, phase: str) -> None:
        if phase == "data" and self._over:
            self._experience, self._within, self._over = self._experience + 1, 0, False
        self._over = self._over or phase == "consolidate"
        self._pending.append((self._experience, phase, self._now()))
        if phase in ("consolidate", "log") or len(self._pending) > PENDING:
            self._settle()

    def stop(self) -> None:
        """Nothing is under way any more."""
        self("log")
        self._pending.clear()

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _settle(self) -> None:
        """Read how long everything lasted but what has only begun."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # once an experience, while a clock is listening
        *ended, last = self._pending
        for (experience, phase, start), (*_, end) in zip(ended, [*ended[1:], last], strict=True):
            self._add(experience, phase, _seconds(start, end))
        self._pending = [last]

    def _add(self, experience: int, phase: str, seconds: float) -> None:
        known, start = self.totals.get((experience, phase), Total(0, 0.0)), self._at
        self.totals[experience, phase] = Total(known.calls + 1, known.seconds + seconds)
        self._at += seconds
        if phase not in STEP or self._within < KEPT:
            self.spans.append(Span(experience, phase, start, self._at))
        if phase in ("optimizer", "replay"):
            self.steps, self._within = self.steps + 1, self._within + 1


def _seconds(start: Any, end: Any) -> float:
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000
