"""A run's journal: one line for every milestone, the truth that trackers and reports mirror.

journal.jsonl holds only what the run determines, so that a killed and resumed run writes the same bytes.
attempts.jsonl holds what it does not: who ran when, and how long it took.
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
    def __init__(self, folder: Path):
        self.path, self.attempts = folder / "journal.jsonl", folder / "attempts.jsonl"

    def rows(self) -> list[Row]:
        """The milestones reached so far, in order; a line that a crash has torn is left out."""
        return _read(self.path)

    def cut(self, length: int) -> list[Row]:
        """Keep the first `length` rows, which the checkpoint vouches for, and mend a torn end."""
        rows = self.rows()[:length]
        if self.path.exists():
            write(self.path, "".join(map(_line, rows)).encode())
        return rows

    def add(self, new: Row) -> None:
        _append(self.path, new)

    def note(self, **event: Any) -> None:
        """What happened in this attempt, beside the journal."""
        _append(self.attempts, event)

    def notes(self) -> list[Row]:
        return _read(self.attempts)

    def seconds(self) -> float:
        """Spent on the experiences, each counted once: the last time that it was learned."""
        spent = {n["experience"]: n["seconds"] for n in self.notes() if n.get("event") == "milestone"}
        return sum(spent.values())


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


def _append(path: Path, new: Row) -> None:
    with path.open("ab") as file:
        file.write(_line(new).encode())
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last line break was torn off
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
