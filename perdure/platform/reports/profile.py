"""Where the time of a run went, as a table, a flame chart and a trace, in its folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...strategies.training.profiler import PHASES, STEP, Clock, Span, Total
from ..runs.verification import whole_files
from ..runs.workspace import PROFILE
from ..storage.atomic import write

COLOURS = {
    "data": "#7a8793",
    "augment": "#b07aa1",
    "forward": "#4e79a7",
    "penalty": "#e15759",
    "backward": "#2f5f8a",
    "steer": "#f28e2b",
    "optimizer": "#59a14f",
    "replay": "#4e79a7",
    "capture": "#9c755f",
    "consolidate": "#edc948",
    "evaluate": "#76b7b2",
    "log": "#bab0ac",
}


@dataclass(frozen=True)
class Line:
    """A phase of a run, over all of its experiences."""

    phase: str
    calls: int
    seconds: float
    share: float  # of the whole time
    per_step: float | None  # microseconds; None for what is no part of a step


def lines(totals: Mapping[tuple[int, str], Total], steps: int) -> list[Line]:
    """Every phase that took place, in the order in which they do."""
    whole = sum(total.seconds for total in totals.values()) or 1.0
    made = []
    for phase in PHASES:
        mine = [total for (_, name), total in totals.items() if name == phase]
        if mine:
            calls, seconds = sum(t.calls for t in mine), sum(t.seconds for t in mine)
            each = 1e6 * seconds / steps if phase in STEP and steps else None
            made.append(Line(phase, calls, seconds, seconds / whole, each))
    return made


def keep(clock: Clock, folder: Path, title: str, uncaptured: str) -> None:
    """profile.json, trace.json for chrome://tracing or Perfetto, and flame.html."""
    clock.stop()
    table = lines(clock.totals, clock.steps)
    known = {
        "run": title,
        "device": str(clock.device),
        "steps": clock.steps,
        "not captured": uncaptured,
        "phases": [asdict(line) for line in table],
    }
    path = folder / PROFILE
    path.mkdir(parents=True, exist_ok=True)
    write(path / "profile.json", json.dumps(known, indent=1).encode())
    write(path / "trace.json", json.dumps({"traceEvents": trace(clock.spans)}).encode())
    write(path / "flame.html", flame(title, clock, table).encode())


def read(folder: Path) -> dict[str, Any]:
    """What `keep` wrote down, and where its chart is; empty where a run was made without."""
    path = folder / PROFILE
    if path / "profile.json" not in whole_files(folder, f"{PROFILE}/profile.json"):
        return {}
    return json.loads((path / "profile.json").read_text()) | {"chart": str(path / "flame.html")}


def trace(spans: list[Span]) -> list[dict[str, Any]]:
    """Spans as Chrome's trace events: experiences on one line, phases below them."""
    events: list[dict[str, Any]] = []
    for experience, (start, end) in _extents(spans).items():
        events.append(_event(_named(experience), "experience", start, end))
    return events + [_event(span.phase, PHASES[span.phase], span.start, span.end) for span in spans]


def _event(name: str, kind: str, start: float, end: float) -> dict[str, Any]:
    return {"name": name, "cat": kind, "ph": "X", "ts": 1e6 * start, "dur": 1e6 * (end - start), "pid": 0, "tid": 0}


def _extents(spans: list[Span]) -> dict[int, tuple[float, float]]:
    made: dict[int, tuple[float, float]] = {}
    for span in spans:
        start, _ = made.get(span.experience, (span.start, span.end))
        made[span.experience] = start, span.end
    return made


def _named(experience: int) -> str:
    return f"experience {experience + 1}" if experience >= 0 else "before"


@dataclass(frozen=True)
class _Box:
    left: float  # share of the width
    width: float
    row: int
    name: str
    tip: str
    colour: str


def flame(title: str, clock: Clock, table: list[Line]) -> str:
    """One HTML file that asks nothing of any network."""
    from .page import page

    charts = [
        ("The whole run", "Width is time: all of it, then each experience, then what it was spent on.", _summed(clock)),
        ("A few steps, one by one", "As they followed each other in the last experience.", _few(clock.spans)),
    ]
    whole = sum(line.seconds for line in table)
    told = {"title": title, "device": str(clock.device), "steps": clock.steps, "whole": whole, "table": table}
    return page("profile.html", **told, colours=COLOURS, words=PHASES, charts=charts)


def _summed(clock: Clock) -> list[_Box]:
    """Four rows: the run, its experiences, their steps and what lies between, the phases of steps."""
    whole = sum(total.seconds for total in clock.totals.values()) or 1.0
    boxes = [_Box(0, 1, 0, "run", f"run: {_told(whole, whole)}", "#d9d4c7")]
    left = 0.0
    for experience in sorted({experience for experience, _ in clock.totals}):
        mine = [(p, clock.totals[experience, p].seconds) for p in PHASES if (experience, p) in clock.totals]
        steps = [(p, s) for p, s in mine if p in STEP]
        parts = [*([("steps", sum(s for _, s in steps))] if steps else []), *((p, s) for p, s in mine if p not in STEP)]
        boxes += _row([(_named(experience), sum(s for _, s in parts))], left, 1, whole)
        boxes += _row(parts, left, 2, whole)
        boxes += _row(steps, left, 3, whole)
        left += sum(s for _, s in parts) / whole
    return boxes


def _row(parts: list[tuple[str, float]], left: float, row: int, whole: float) -> list[_Box]:
    made = []
    for name, seconds in parts:
        colour = COLOURS.get(name, "#e9e5da")
        made.append(_Box(left, seconds / whole, row, name, f"{name}: {_told(seconds, whole)}", colour))
        left += seconds / whole
    return made


def _few(spans: list[Span], count: int = 5) -> list[_Box]:
    """The phases of the last of those steps that were kept one by one."""
    last = max((s.experience for s in spans if s.phase in STEP), default=0)
    steps = [s for s in spans if s.experience == last and s.phase in STEP]
    ends = [n for n, s in enumerate(steps) if s.phase in ("optimizer", "replay")]
    if not ends:
        return []
    chosen = steps[ends[-min(len(ends), count + 1)] + 1 if len(ends) > 1 else 0 : ends[-1] + 1]
    begun, whole = chosen[0].start, chosen[-1].end - chosen[0].start or 1.0
    return [
        _Box((s.start - begun) / whole, (s.end - s.start) / whole, 0, s.phase, _tip(s), COLOURS[s.phase])
        for s in chosen
    ]


def _tip(span: Span) -> str:
    return f"{span.phase}: {1e6 * (span.end - span.start):.0f} µs"


def _told(seconds: float, whole: float) -> str:
    return f"{seconds:.3f} s, {100 * seconds / whole:.1f} %"
