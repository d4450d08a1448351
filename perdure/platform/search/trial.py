"""One trial of a search: the runs of one point, a milestone of each at a time."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...strategies import names
from ...streams.datasets.dataset import Dataset
from ..execution.execute import execute
from ..runs import sync
from ..runs.any_run import AnyRun
from ..runs.events import Event, Failed, Reached
from ..runs.journal import Journal, Row
from ..runs.record import begin, finished, resumable
from ..runs.workspace import Site
from ..storage.checkpoints import Store
from ..storage.claims import claimed
from .objective import measured
from .search import Search
from .space import Point

POINTER = "pointer.json"


class Trial:
    """What a trial has come to, and how it goes on. Runs are equal to those of any other command, and are made once.

    length: milestones of a run. stops: of points whose trials were stopped by a scheduler before, after how many
    milestones; they are stopped there again.
    """

    def __init__(self, search: Search, site: Site, dataset: Dataset | None, length: int, stops: dict[str, int]):
        self.search, self.site, self.dataset, self.length, self.stops = search, site, dataset, length, stops
        self.point: Point = {}
        self.after: tuple[str, ...] = ()
        self.count = 0
        self._events: list[Iterator[Event]] = []

    def begin(self, point: Point, after: tuple[str, ...] = (), count: int = 0) -> None:
        """Go over to another point, `count` milestones of which are known."""
        self.close()
        self.point, self.after, self.count = point, after, count
        sync.fetch([run.id for run in self.runs], self.site)

    @property
    def runs(self) -> tuple[AnyRun, ...]:
        return self.search.runs(self.point, self.after)

    def step(self) -> dict[str, Any]:
        """One milestone on: what the trial is worth by now, and whether that was all."""
        failed = "" if self._is_known() else self._made()
        values = [aim.worst for aim in self.search.aims]
        sync.fetch([run.id for run in self.runs], self.site)
        if not failed:
            self.count += 1
            known = [measured(run, Journal(self.site.folder(run)).rows()[: self.count]) for run in self.runs]
            values = [sum(map(aim.value, known)) / len(known) for aim in self.search.aims]
        told = {f"objective_{n}": value for n, value in enumerate(values)}
        where = {"point": json.dumps(self.point), "after": json.dumps(self.after), "count": self.count}
        done = bool(failed) or self.count in (self.length, self.stops.get(json.dumps(self.point)))
        if done:
            self.close()
        return told | where | {"problem": failed, "done": done}

    def close(self) -> None:
        """Let go of the runs; they go on from their checkpoints."""
        for events in self._events:
            events.close()  # pyright: ignore[reportAttributeAccessIssue]
        self._events = []

    def save(self, folder: Path) -> None:
        """A pointer to where the trial is; in a population also all that another may go on from."""
        self.close()
        here = {"point": self.point, "after": self.after, "count": self.count, "runs": [run.id for run in self.runs]}
        (folder / POINTER).write_text(json.dumps(here))
        if self.search.scheduler == "pbt":
            for n, run in enumerate(self.runs):
                _copy(self.site.folder(run), folder / str(n) / run.id)

    def load(self, folder: Path) -> None:
        """Go on from a pointer: of this trial, or of another, whose weights this one takes over."""
        here = json.loads((folder / POINTER).read_text())
        if here["point"] == self.point:
            self.begin(self.point, tuple(here["after"]), here["count"])
            return
        self.begin(self.point, tuple(f"{id}@{here['count']}" for id in here["runs"]), here["count"])
        for n, run in enumerate(self.runs):  # under the id of the donor, which its journal begins with
            inherit(run, self.site, folder / str(n) / here["runs"][n], here["count"])

    def _is_known(self) -> bool:
        """Whether journals tell of the next milestone: it was made before, or by an equal trial."""
        known = [len(Journal(self.site.folder(run)).rows()) > self.count for run in self.runs]
        marked = [self.count + 1 < self.length or finished(run, self.site) for run in self.runs]
        return not self._events and all(known) and all(marked)

    def _made(self) -> str:
        if not self._events:
            self._events = [_made(run, self.site, self.dataset) for run in self.runs]
            for _ in range(self.count):
                self._milestone()
        return self._milestone()

    def _milestone(self) -> str:
        """All runs one milestone on, those that are at their end to it; why not, where one cannot."""
        for events in self._events:
            for event in events:
                if isinstance(event, Failed):
                    return event.message
                if isinstance(event, Reached) and event.place + 1 < self.length:
                    break  # after the last milestone comes the mark that the run is finished
        return ""


def inherit(run: AnyRun, site: Site, donor: Path, count: int) -> None:
    """Begin a run with what another had reached: its weights, state and journal, but settings of its own."""
    store = Store(site.folder(run))
    if store.load() is not None:
        return  # it has gone on from there before
    newest = max(donor.glob("checkpoint-*.pt"))
    checkpoint, rows = resumable(Store(donor), Journal(donor))
    assert checkpoint is not None and len(rows) >= count
    begin(run, site)
    if "optimizer" in checkpoint:
        checkpoint["optimizer"]["param_groups"] = _own_settings(run, checkpoint["optimizer"]["param_groups"])
    attempt = store.claim()
    journal = Journal(store.folder, attempt)
    journal.begin(rows[:count])
    first, then = newest.stem.split("-")[1:3]
    store.save(checkpoint | {"rows": count, "journal": journal.head}, attempt, (int(first), int(then)))


def _copy(folder: Path, to: Path) -> None:
    to.mkdir(parents=True)
    for path in (*folder.glob("checkpoint-*.pt"), *folder.glob("journal*.jsonl")):
        shutil.copy(path, to / path.name)


def _own_settings(run: AnyRun, groups: list[Row]) -> list[Row]:
    """The donor's moments under the run's own rates: torch would bring the donor's rates along."""
    import torch

    own = names.optimizer(run.optimizer)([torch.nn.Parameter(torch.zeros(1))]).state_dict()["param_groups"][0]
    return [own | {"params": group["params"]} for group in groups]


def _made(run: AnyRun, site: Site, dataset: Dataset | None) -> Iterator[Event]:
    """The events of a run that no other trial or command has in hand: an equal one is waited for, and then known."""
    with claimed(site.home, run.id):
        yield from execute(run, site, dataset)
