"""A run's journal: one line for every milestone, the truth that trackers and reports mirror.

journal.jsonl holds only what the run determines, so that a killed and resumed run writes the same bytes. It is
there once the run is finished; until then every attempt writes to a file of its own, journal-0001.jsonl, which begins
with the rows that its checkpoint vouches for. So an attempt that wakes up late adds nothing to another's.
attempts.jsonl holds what is no part of the run: who ran when, and how long it took.
Rows are chained by digests (see `records`): those of the journal to the run, those of attempts.jsonl in each attempt.
"""

import json
import os
from collections.abc import Iterator, Sequence
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any

from ...strategies import metrics
from ...strategies.training.plan import Milestone
from ..storage.atomic import write
from ..storage.sealed import END, Chain, Damaged, Row, append, chain, digest_of, line, lines, read


def row(stone: Milestone) -> Row:
    return {
        "experience": stone.experience,
        "loss": stone.loss if isfinite(stone.loss) else None,
        "accuracy": [None if isnan(v) else v for v in stone.accuracy],
        "baseline": list(stone.baseline),
        "state_bytes": stone.state_bytes,
        "extras": {k: v if isfinite(v) else None for k, v in stone.extras.items()},
    }


class Journal:
    """attempt: whose rows are written; without one there is reading only.

    start: what the chain of rows begins with; the folder's name, which is the run's id, by default.
    """

    def __init__(self, folder: Path, attempt: int = 0, start: str | None = None):
        self.path, self.attempts = folder / "journal.jsonl", folder / "attempts.jsonl"
        self.start = folder.name if start is None else start
        self._attempt, self._own = attempt, self._of(attempt)
        self._heads = {self._own: self.start, self.attempts: _first(attempt)}  # digest of the last row of each

    def rows(self) -> list[Row]:
        """The milestones reached so far, in order; a line that a crash has torn is left out.

        Of files of which none is whole, those of the file with the most whole rows.
        """
        known = self._chains()
        whole = next((one.rows for one in known if not one.problem), None)
        return whole if whole is not None else max((one.rows for one in known), key=len, default=[])

    def damage(self) -> list[str]:
        """What is wrong with any of its files."""
        found = [known.problem for known in self._chains()] + [problem for _, problem in self._noted()]
        return [problem for problem in dict.fromkeys(found) if problem]

    def prefix(self, count: int, head: str) -> list[Row] | None:
        """The first `count` rows, after which the digest is `head`; None where no file has them."""
        every = (k for k in self._chains() if len(k.rows) >= count and k.head(count, self.start) == head)
        return next((known.rows[:count] for known in every), None if count else [])

    def final(self) -> Chain:
        """The rows of a finished run. Raises Damaged."""
        known = chain(self.path, self.start)
        if known is None:
            raise Damaged(f"{self.path.name} is gone")
        if known.problem or known.torn:
            raise Damaged(known.problem or f"{self.path.name} has something after its last row")
        return known

    def begin(self, rows: Sequence[Row]) -> None:
        """Begin this attempt's file with rows that another has reached."""
        text = ""
        self._heads[self._own] = self.start
        for one in rows:
            text += self._next(self._own, one)
        write(self._own, text.encode())

    @property
    def head(self) -> str:
        """The digest after this attempt's last row."""
        return self._heads[self._own]

    def add(self, new: Row) -> None:
        append(self._own, self._next(self._own, new))

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
            if not path.stem[8:].isdigit() or int(path.stem[8:]) <= self._attempt:
                path.unlink(missing_ok=True)

    def note(self, **event: Any) -> None:
        """What happened in this attempt, beside the journal."""
        append(self.attempts, self._next(self.attempts, event | {"attempt": self._attempt}))

    def notes(self) -> list[Row]:
        """All that are whole, in the order in which they were written."""
        return [note for note, problem in self._noted() if not problem]

    def seconds(self, count: int | None = None) -> float:
        """Spent on the experiences, each counted once: the last time that it was learned.

        count: how many experiences there are notes of, for NaN where one is missing.
        """
        spent = {n["experience"]: n["seconds"] for n in self.notes() if n.get("event") == "milestone"}
        known = range(count) if count is not None else spent
        return sum(spent.get(n, nan) for n in known)

    def _chains(self) -> list[Chain]:
        """The finished journal, then the attempts', the newest first; the former again where it came meanwhile."""
        written = sorted(self.path.parent.glob("journal-*.jsonl"), reverse=True)
        return [known for path in (self.path, *written, self.path) if (known := chain(path, self.start)) is not None]

    def _noted(self) -> Iterator[tuple[Row, str]]:
        """Every note, and what is wrong with it; attempts that were at work at once have a chain each."""
        heads: dict[Any, str] = {}
        for number, raw in enumerate(lines(self.attempts)):
            try:
                attempt = json.loads(raw)["attempt"]
            except (ValueError, KeyError, TypeError):
                if raw.endswith(END):  # otherwise a crash has torn it
                    yield {}, f"row {number + 1} of {self.attempts.name} is damaged"
                continue
            known = read(raw, heads.get(attempt, _first(attempt)))
            heads[attempt] = digest_of(raw)
            yield (known, "") if known else ({}, f"row {number + 1} of {self.attempts.name} is damaged")

    def _next(self, path: Path, new: Row) -> str:
        text, self._heads[path] = line(new, self._heads[path])
        return text

    def _of(self, attempt: int) -> Path:
        return self.path.with_name(f"journal-{attempt:04d}.jsonl")


def matrix(rows: Sequence[Row]) -> list[list[float]]:
    """Accuracy on each experience (columns) at each mark (rows); NaN where no test was made."""
    return [tested(r["accuracy"]) for r in rows]


def tested(values: Sequence[float | None]) -> list[float]:
    """A row as it is written down, with NaN for what was not tested."""
    return [nan if value is None else value for value in values]


def under(rows: Sequence[Row]) -> dict[str, list[list[float]]]:
    """The matrix of robust accuracy under every attack that was made after each experience."""
    attacks = rows[-1].get("attacked", ())
    return {attack: [tested(row["attacked"][attack]["robust"]) for row in rows] for attack in attacks}


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


def _first(attempt: Any) -> str:
    """What the chain of an attempt's notes begins with."""
    return f"attempt {attempt}"
