"""What was asked for in one go: its runs, written down so that it can be gone on with."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..storage.atomic import write
from ..storage.lock import held
from ..storage.sealed import Damaged, read_sealed, write_sealed
from .any_run import AnyRun, run_of
from .run import Run

MOST_RUNS = 100_000  # of a command
SEARCHED = ("trials", "by", "scheduler", "seeds", "finalists", "fresh")  # what a search has that no run has
NEWEST = "newest"  # a file that holds the id of the command that was asked for last


def expect_runs(count: int) -> None:
    """Raises ValueError for more runs than a command can hold."""
    if count > MOST_RUNS:
        raise ValueError(f"expected at most {MOST_RUNS} runs in a command, got {count}; ask for fewer seeds")


def seeds_of(seeds: int | Sequence[int], count: int) -> list[int]:
    """The seeds that so many, or these, are, where each is for `count` runs. Raises ValueError for more than a command
    can hold, and for none."""
    if isinstance(seeds, str) or not isinstance(seeds, int | Sequence):
        raise ValueError(f"seeds must be a number of seeds, as 5, or whole numbers, as [3, 5, 8], got {seeds!r}")
    expect_runs(count * (seeds if isinstance(seeds, int) else len(seeds)))
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not chosen:
        raise ValueError(f"expected a seed at least, got {seeds!r}")
    return chosen


@dataclass(frozen=True)
class Command:
    """Runs in the order in which they were asked for, each once.

    how: settings to go on with, as the command line takes them; nothing of it changes what a run is.
    search: what is searched, as it is written down, where runs come to a command while it is made.
    """

    runs: tuple[AnyRun, ...]
    line: str = ""  # as it was typed
    how: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def grid(strategies: Sequence[str], seeds: Sequence[int], **common: Any) -> "Command":
        """Every strategy from every seed, seeds outside, so that all strategies have a first result early.

        Raises NotationError or ValueError for what cannot be read.
        """
        expect_runs(len(strategies) * len(seeds))
        runs = [Run(strategy, seed=seed, **common).normal() for seed in seeds for strategy in strategies]
        once = {run.id: run for run in runs}
        return Command(tuple(once.values()))

    @property
    def id(self) -> str:
        """Equal for equal runs, or searches: typed again, a command goes on."""
        text = json.dumps(self.search, sort_keys=True) if self.search else " ".join(run.id for run in self.runs)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """What a tracker calls it."""
        if self.search:
            run = run_of(self.search["run"])
            return f"search of {run.method} on {self.search['on']}"
        count = len(self.methods)
        one, several = self.runs[0].kinds
        return f"{count} {one if count == 1 else several} on {self.runs[0].on}"

    @property
    def methods(self) -> list[str]:
        """What is compared: strategies, or meta-learners."""
        return list(dict.fromkeys(run.method for run in self.runs))

    def row(self) -> dict[str, str]:
        """Parameters in one level, for a tracker: what all runs have, or every value of those that they differ in."""
        rows = [run.row() for run in ([run_of(self.search["run"])] if self.search else self.runs)]
        keys = dict.fromkeys(key for row in rows for key in row)
        values = {key: dict.fromkeys(str(row[key]) for row in rows if key in row) for key in keys}
        asked = {k: str(self.search[k]) for k in SEARCHED if k in self.search}
        return {key: ", ".join(known) for key, known in values.items()} | asked

    def folder(self, home: str) -> Path:
        return _commands(home) / self.id

    def keep(self, home: str) -> None:
        self.folder(home).mkdir(parents=True, exist_ok=True)
        known = {"id": self.id, "line": self.line, "how": self.how, "runs": [asdict(run) for run in self.runs]}
        known |= {"ids": [run.id for run in self.runs]} | ({"search": self.search} if self.search else {})
        write_sealed(self.folder(home) / "command.json", known)
        write(_commands(home) / NEWEST, self.id.encode())

    @contextmanager
    def held(self, home: str) -> Iterator[None]:
        """Keep others from this command until the block or the process ends. Raises Busy."""
        with held(self.folder(home)):
            yield


def folders(home: str) -> list[Path]:
    """Of all commands, the newest first."""
    files, newest = _commands(home).glob("*/command.json"), _commands(home) / NEWEST
    first = newest.read_text(errors="replace") if newest.is_file() else ""  # whatever the clock said
    ordered = sorted(files, key=lambda f: (f.parent.name == first, f.stat().st_mtime), reverse=True)
    return [file.parent for file in ordered]


def read(folder: Path) -> Command:
    """Raises NotationError where it names a strategy of a plugin that is not loaded."""
    it = _read(folder)
    return Command(tuple(run_of(run).normal() for run in it["runs"]), it["line"], it["how"], it.get("search", {}))


def rows(folder: Path) -> list[AnyRun]:
    """The runs of a command as they were written down, whether their names are known here or not. Raises Damaged."""
    return [run_of(run) for run in _read(folder)["runs"]]


def ids(folder: Path) -> list[str]:
    """Of the runs of a command, whether their names are known here or not. Raises Damaged."""
    known = _read(folder)
    return known["ids"] if "ids" in known else [run.id for run in read(folder).runs]


def settings(folder: Path) -> dict[str, Any]:
    """How a command was made."""
    return _read(folder)["how"]


def _read(folder: Path) -> dict[str, Any]:
    try:
        return read_sealed(folder / "command.json")
    except Damaged as e:
        raise Damaged(f"{folder}: {e}; type the command again, which goes on with its runs") from None


def _commands(home: str) -> Path:
    return Path(home).expanduser().absolute() / "commands"
