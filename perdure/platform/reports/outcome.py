"""What a run has come to, and what its metrics are."""

from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

from ...strategies import metrics
from ...strategies.metrics import Interval
from ..runs.datasets import Data
from ..runs.identity import doubt_same
from ..runs.journal import Journal, Row, matrix, robustness, under
from ..runs.lookup import found
from ..runs.verification import FINISHED, sealed
from ..runs.workspace import Site
from . import profile

METRICS = ("accuracy", "forgetting", "backward_transfer", "forward_transfer")


LEFT = ("robust_accuracy", "robust_forgetting", "success")  # of an attack


POISON = "poison_success"


@dataclass(frozen=True)
class Outcome:
    """One run and how far it came. status: finished, failed or stopped."""

    run: Any  # a Run or a MetaRun
    rows: list[Row]
    seconds: float  # spent on its experiences
    status: str = "finished"
    problem: str = ""
    profile: dict[str, Any] = field(default_factory=dict)  # where its time went, if that was asked for
    pictures: tuple[Path, ...] = ()  # PNG files that it has drawn of itself

    def metrics(self) -> dict[str, float]:
        """What the run has come to at its end; NaN of a run that is not finished, however far it came."""
        return self.so_far() if self.status == "finished" else dict.fromkeys(METRICS, nan)

    def so_far(self) -> dict[str, float]:
        """The same after its last row, whatever has become of it since."""
        return metrics.summary(matrix(self.rows), self.rows[0]["baseline"]) if self.rows else {}

    def robustness(self) -> dict[str, dict[str, float]]:
        """What each of the run's attacks has left at its end; NaN of a run that is not finished."""
        if self.status == "finished" and self.rows:
            return robustness(self.rows)
        return {attack: dict.fromkeys(LEFT, nan) for attack in self.run.attacks}

    def poison_success(self) -> float:
        """The share of what a poisoner of the stream wants that it gets at the run's end; NaN where there is none."""
        return self.extras()[-1].get(POISON, nan) if self.status == "finished" and self.rows else nan

    def under(self) -> dict[str, list[list[float]]]:
        """The matrix of robust accuracy under each of the run's attacks."""
        return under(self.rows) if self.rows else {}

    def extras(self) -> list[dict[str, float]]:
        """What the strategy told of itself, after each experience."""
        return [{k: nan if v is None else v for k, v in row["extras"].items()} for row in self.rows]

    @staticmethod
    def of(run: Any, site: Site, status: str = "finished", problem: str = "") -> "Outcome":
        """Raises Damaged for a finished run that is no longer as it was when it was finished."""
        folder = site.folder(run)
        journal, spent = Journal(folder), profile.read(folder)
        if status == "finished":
            rows, seconds = journal.final().rows, sealed(folder)["seconds"]
        else:
            rows = journal.rows()
            seconds, problem = journal.seconds(len(rows)), "; ".join(filter(None, [problem, *journal.damage()]))
        return Outcome(run, rows, seconds, status, problem, spent, tuple(site.pictures(run)))


@dataclass(frozen=True)
class Outcomes:
    """What has become of the runs of one command."""

    outcomes: list[Outcome]
    line: str = ""  # the command that made it, as it was typed
    report: str = ""  # path of the HTML report
    stopped: bool = False  # whether it was interrupted
    undelivered: str = ""  # why the tracker has not got everything yet
    unwritten: str = ""  # why there is no report
    how: dict[str, Any] = field(default_factory=dict)  # where and by whom it was made

    def means(self) -> dict[str, float]:
        """What a tracker is told of all runs: as "accuracy/naive" a mean over seeds, as "accuracy_ci95/naive" the
        half-width of its interval; of one method as "accuracy" too, as its runs have it."""
        told = {}
        for method, known in self.standings().items():
            ways = [f"/{method}"] + [""] * (len(self.by_method()) == 1)
            for name, one in known.items():
                told |= {f"{name}{way}": one.mean for way in ways} | {f"{name}_ci95{way}": one.half for way in ways}
        return told

    def standings(self) -> dict[str, dict[str, Interval]]:
        """The numbers of each method over its seeds."""
        raise NotImplementedError

    def by_method(self) -> dict[str, list[Outcome]]:
        """Finished runs, strategies or meta-learners in the order in which they were asked for."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            group = groups.setdefault(outcome.run.method, [])
            if outcome.status == "finished":
                group.append(outcome)
        return groups

    @property
    def failed(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.status == "failed"]


def outcome(id: str, home: str = "perdure-runs") -> Outcome:
    """What is known of a run by (the beginning of) its id.

    Raises ValueError, and Damaged where what is on disk is not what was written.
    """
    run, site = found(id, home), Site(home)
    if (site.folder(run) / FINISHED).exists():
        sealed(site.folder(run))
        doubt_same([run], site, Data(site))
        return Outcome.of(run, site)
    ends = [note for note in Journal(site.folder(run)).notes() if note["event"] in ("start", "failed")]
    if ends and ends[-1]["event"] == "failed":
        return Outcome.of(run, site, "failed", ends[-1]["message"])
    return Outcome.of(run, site, "stopped")
