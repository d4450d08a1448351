"""Searching, from the first trial to the report: Tune makes trials, then a fleet makes the best once more."""

import ast
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...notation import parsed
from ...strategies.meta.base import MetaLearner
from ...strategies.meta.names import META_LEARNERS
from ...streams.names import stream_recipe
from ..cluster import connection
from ..reports.kinds import reporting
from ..runs import sync
from ..runs.any_run import AnyRun
from ..runs.datasets import Data, packed
from ..runs.events import Failed, Finished, Reached
from ..runs.job_record import note
from ..runs.run import Run
from ..runs.set_aside import set_aside, settled
from ..runs.study import Command, read
from ..runs.workspace import Site
from ..storage.disk_space import room, written
from ..storage.lock import held
from ..storage.sealed import Damaged, read_sealed, write_sealed
from ..studies.make import make, unheard
from ..studies.runner import Watch, nobody
from ..studies.settings import How, tracker_of
from ..tracking.tracker import Tracker
from .ray_tune import fit
from .results import Searched, html
from .search import Search
from .trial_result import Tried

Hear = Callable[[Tried, Searched], None]  # what is told of a trial that has come to an end, and of all so far
STOPS = "stops.json"


def conduct_search(
    search: Search,
    how: How,
    again: bool = False,
    watch: Watch = nobody,
    hear: Hear = unheard,
    data: Data | None = None,
) -> Searched:
    """Make a search, or go on with it. Raises Busy where another process has it in hand.

    data: what has been loaded already; each data set is loaded once, for its trials and for the best again.
    """
    how = how.settled()
    site = Site(how.home, how.data, how.plugins, how.save_every)
    if site.storage and search.scheduler == "pbt":
        raise ValueError(
            f"a population hands its weights on in a folder that all machines see, and {site.storage} is none; name "
            "one with --home, or another --scheduler"
        )
    data = data or Data(site)
    length = search.refuse(site, data)
    search.points()  # a grid that is none is told before anything starts
    command = Command((), line(search, how), how.kept(), asdict(search))
    folder = command.folder(site.home)
    with room(folder), held(folder):
        sync.fetch_folder(folder, site)
        before = read(folder).runs if (folder / "command.json").exists() else ()
        if again:
            set_aside(before, site)
            (folder / STOPS).unlink(missing_ok=True)
        tracker = tracker_of(how, site)
        sync.fetch([run.id for run in before], site)
        command.keep(site.home)
        note(folder, site)
        tracker.begin(command)
        log = Log(search, command, site, length, tracker, hear)
        made, stopped = Searched(search, []), False
        try:
            with settled(before, site):
                made = _sought(log, how, site, data, again, watch)
        except KeyboardInterrupt:
            stopped = True
        stopped = stopped or any(final.stopped for final in made.finals)
        told = {"line": command.line, "report": str(folder / "report.html"), "stopped": stopped, "how": command.how}
        made = replace(made, trials=log.tried(), **told)
        unwritten = written(folder / "report.html", html(made).encode())
        made = replace(made, undelivered=tracker.end(made), unwritten=unwritten)
        sync.carry(folder, site)
        return made


def _sought(log: "Log", how: How, site: Site, data: Data, again: bool, watch: Watch) -> Searched:
    """All trials, then the best of them once more."""
    search, ours = log.search, connection.connect(how.address)
    try:
        gpus = how.gpus_per_run or float(search.run.device.startswith("cuda"))
        slots, dataset = connection.slots(how.slots, search.run.threads, gpus), data.of(search.run)
        arrays = packed(dataset) if dataset is not None else None
        fit(search, site, arrays, log.length, slots, gpus, log.stops, log.path.parent, log)
        made = Searched(search, log.tried())
        return replace(made, finals=_finals(made, how, log, data, again, watch))
    finally:
        if ours:
            connection.disconnect()


class Log:
    """What the trials have told, kept where a search that is made again finds it, and passed on to the tracker."""

    def __init__(self, search: Search, command: Command, site: Site, length: int, tracker: Tracker, hear: Hear):
        self.search, self.command, self.length, self.hear = search, command, length, hear
        self.site, self.tracker = site, tracker
        self.path = command.folder(site.home) / STOPS
        self.stops: dict[str, int] = _stops(self.path)
        self._told: dict[int, Tried] = {}

    def __call__(self, number: int, told: dict[str, Any]) -> None:
        point, after, count = json.loads(told["point"]), json.loads(told["after"]), told["count"]
        runs, problem = self.search.runs(point, after), told.get("problem", "")
        values = tuple(told.get(f"objective_{n}", aim.worst) for n, aim in enumerate(self.search.aims))
        status = "failed" if problem else "finished" if count == self.length else "stopped"
        trial = Tried(number, point, tuple(run.id for run in runs), runs[0].method, count, values, status, problem)
        self._told[number] = trial
        self._pass_on(runs, trial)
        if "ended" in told:
            if status == "stopped":
                self.stops[told["point"]] = count
                write_sealed(self.path, self.stops)
            self.hear(trial, Searched(self.search, self.tried()))

    def tried(self) -> list[Tried]:
        return [self._told[number] for number in sorted(self._told)]

    def _pass_on(self, runs: Sequence[AnyRun], trial: Tried) -> None:
        """Let the command hold the trial's runs, and the tracker hear of them."""
        known = {run.id: run for run in self.command.runs} | {run.id: run for run in runs}
        if len(known) > len(self.command.runs):
            self.command = replace(self.command, runs=tuple(known.values()))
            self.command.keep(self.site.home)
            self.tracker.grow(self.command)
        sync.fetch(trial.runs, self.site)
        for id in trial.runs:
            if trial.status == "stopped":
                self.tracker.hear(Reached(id, {}, None))
            else:
                self.tracker.hear(Failed(id, "error", trial.problem) if trial.problem else Finished(id, False))


def _stops(path: Path) -> dict[str, int]:
    """After how many milestones trials were stopped before. Raises Damaged."""
    try:
        return read_sealed(path)
    except FileNotFoundError:
        return {}
    except Damaged as e:
        raise Damaged(f"{path.parent}: {e}; it says where trials were stopped: search anew with --again") from None


def line(search: Search, how: How) -> str:
    """What to type for a search like this, with every setting that counts."""
    run, plan = search.run, {k: v for k, v in asdict(search.run.plan).items() if v is not None}
    given: dict[str, Any] = {"model": run.model, "optimizer": run.optimizer, "trials": search.trials}
    given |= {"by": search.by, "scheduler": search.scheduler, "finalists": search.finalists, "fresh": search.fresh}
    given |= {"asha": {"grace": search.grace}, "pbt": {"interval": search.interval}}.get(search.scheduler, {})
    if isinstance(run, Run):
        held: Any = stream_recipe(run.stream)
        given |= {"share": held.share} | ({"first": held.first} if held.first else {})
        plan = {k: plan[k] for k in ("epochs" if run.plan.steps is None else "steps", "batch_size")}
    else:
        given |= {"tested": search.tested} | ({"loss": run.loss} if run.loss else {})
        plan = {k: plan[k] for k in ("iterations", "batch", "every", "judged")}
    given |= plan | {"seed": run.seed, "seeds-per-trial": search.seeds}
    given |= {k: v for k in ("threads", "device") if (v := getattr(run, k)) != getattr(Run(), k)}
    given |= {"data": how.data} if how.data else {}
    words = [("objective", text) for text in search.objectives] + list(given.items())
    words += [("plugin", path) for path in how.plugins]
    parts = [word for name, value in words for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["perdure", "tune", run.method, "--on", search.on, *parts])


def _finals(made: Searched, how: How, log: Log, data: Data, again: bool, watch: Watch) -> list[Any]:
    """The best on test samples: a comparison for every model and optimizer among them."""
    groups: dict[tuple[str, str], list[AnyRun]] = {}
    for trial in made.best if made.search.fresh else ():
        for run in made.search.finals(trial.point):
            groups.setdefault((run.model, run.optimizer), []).append(run)

    def watched(final: Command) -> Any:
        log.command.keep(log.site.home)  # it is the search that is gone on with
        return watch(final)

    comparisons = []
    for runs in groups.values():
        seeds = list(dict.fromkeys(run.seed for run in runs))
        final = Command(tuple(sorted(runs, key=lambda run: run.seed)))
        typed = reporting(runs[0]).line(final.methods, runs[0], seeds, asdict(how))
        comparisons.append(make(replace(final, line=typed), how, again, watched, data=data))
    return comparisons


def outer_optimizer(method: str) -> str:
    """The outer optimizer of the meta-learners in a text. Raises ValueError where they have different ones."""
    _, tree = parsed(method)
    known = [
        META_LEARNERS[part.id] for part in ast.walk(tree) if isinstance(part, ast.Name) and part.id in META_LEARNERS
    ]
    own = {cls.outer for cls in known} or {MetaLearner.outer}
    if len(own) > 1:
        raise ValueError(f"{method} has learners of different outer optimizers ({', '.join(sorted(own))}); say which")
    return own.pop()
