"""A run's journal: one line for every milestone, the truth that trackers and reports mirror.

journal.jsonl holds only what the run determines, so that a killed and resumed run writes the same bytes. It is
there once the run is finished; until then every attempt writes to a file of its own, journal-0001.jsonl, which begins
with the rows that its checkpoint vouches for. So an attempt that wakes up late adds nothing to another's.
attempts.jsonl holds what is no part of the run: who ran when, and how long it took.
"""

import json
import os
from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

from ..strategies import metrics
from ..strategies.loop import Milestone
from .store import write

Row = dict[str, Any]


def row(stone: Milestone) -> Row:
    return {
        "experience": stone.experience,
        "loss": stone.loss if isfinite(stone.loss) else None,
        "accuracy": list(stone.accuracy),
        "baseline": list(stone.baseline),
        "state_bytes": stone.state_bytes,
        "extras": {k: v if isfinite(v) else None for k, v in stone.extras.items()},
    }


class Journal:
    """attempt: whose rows are written; without one there is reading only."""

    def __init__(self, folder: Path, attempt: int = 0):
        self.path, self.attempts = folder / "journal.jsonl", folder / "attempts.jsonl"
        self._attempt, self._own = attempt, self._of(attempt)

    def rows(self) -> list[Row]:
        """The milestones reached so far, in order; a line that a crash has torn is left out."""
        written = sorted(self.path.parent.glob("journal-*.jsonl"), reverse=True)
        # Once more where it was finished meanwhile, and the attempts' files are gone
        return next((rows for path in (self.path, *written, self.path) if (rows := _read(path)) is not None), [])

    def begin(self, kept: int, length: int) -> list[Row]:
        """Begin with the first `length` rows of the attempt `kept`, which its checkpoint vouches for.

        Raises ValueError where that has fewer.
        """
        of = _read(self._of(kept))
        rows = (self.rows() if of is None else of)[:length]
        if len(rows) < length:
            raise ValueError(
                f"expected {length} rows in the journal of {self.path.parent.name}, got {len(rows)}: somebody has "
                "removed or cut it; begin the run anew with --again"
            )
        write(self._own, "".join(map(_line, rows)).encode())
        return rows

    def add(self, new: Row) -> None:
        append(self._own, new)

    def end(self) -> None:
        """The run is finished: whichever attempt says so, these are the same bytes.

        Its own file gets another name, and no copy is made, of which a killed attempt would leave half.
        """
        try:
            os.replace(self._own, self.path)
        except FileNotFoundError:  # a newer attempt has ended it meanwhile, and removed ours
            if not self.path.exists():
                raise

    def clear(self) -> None:
        """Forget what this attempt and older ones have written; a newer one may be at work."""
        for path in self.path.parent.glob("journal-*.jsonl"):
            if int(path.stem[-4:]) <= self._attempt:
                path.unlink(missing_ok=True)

    def note(self, **event: Any) -> None:
        """What happened in this attempt, beside the journal."""
        append(self.attempts, event)

    def notes(self) -> list[Row]:
        return lines(self.attempts)

    def seconds(self) -> float:
        """Spent on the experiences, each counted once: the last time that it was learned."""
        spent = {n["experience"]: n["seconds"] for n in self.notes() if n.get("event") == "milestone"}
        return sum(spent.values())

    def _of(self, attempt: int) -> Path:
        return self.path.with_name(f"journal-{attempt:04d}.jsonl")


def matrix(rows: Sequence[Row]) -> list[list[float]]:
    return [r["accuracy"] for r in rows]


def under(rows: Sequence[Row]) -> dict[str, list[list[float]]]:
    """The matrix of robust accuracy under every attack that was made after each experience."""
    return {attack: [row["attacked"][attack]["robust"] for row in rows] for attack in rows[-1].get("attacked", ())}


def robustness(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """What every attack left after the last row, and how far that fell over the stream."""
    told = {}
    for attack, robust in under(rows).items():
        success = rows[-1]["attacked"][attack]["success"]
        told[attack] = {
            "robust_accuracy": metrics.average_accuracy(robust),
            "robust_forgetting": metrics.forgetting(robust),
            "success": nan if success is None else success,
        }
    return told


def _line(new: Row) -> str:
    return json.dumps(new, allow_nan=False) + "\n"


def append(path: Path, new: Row) -> None:
    with path.open("ab") as file:
        file.write(_line(new).encode())
        file.flush()
        os.fsync(file.fileno())


def lines(path: Path) -> list[Row]:
    """The rows of a file; none where there is no such file."""
    return _read(path) or []


def _read(path: Path) -> list[Row] | None:
    """None where there is no such file."""
    try:
        found = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    rows = []
    for line in found[:-1]:  # what follows the last line break was torn off
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
