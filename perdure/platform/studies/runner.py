"""A command from its first run to its report: the executor makes the runs, everybody else listens."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from ...errors import asks_to_leave, place
from ...strategies.training.requirements import Caution
from ..execution.executor import Executor
from ..execution.shared import made
from ..reports.comparison import Comparison
from ..reports.kinds import reporting
from ..reports.outcome import Outcome
from ..runs import sync
from ..runs.any_run import AnyRun
from ..runs.datasets import Data
from ..runs.events import Event, Failed, Finished
from ..runs.identity import expect_same
from ..runs.job_record import note
from ..runs.record import finished
from ..runs.study import Command
from ..runs.workspace import Site
from ..storage.disk_space import room, written
from ..tracking.tracker import Tracker
from ..workloads.kinds import workload

Watch = Callable[[Command], AbstractContextManager[Callable[[Event], None]]]  # what is told of the events


@contextmanager
def nobody(command: Command) -> Iterator[Callable[[Event], None]]:
    yield lambda event: None


def check(command: Command, site: Site, data: Data, again: bool = False) -> None:
    """Refuse what cannot work, before anything is started: data, streams, models and strategies that do not fit.

    again: finished runs too, which are to be made anew.
    What goes wrong in code of one's own is a failure of its run alone, which meets it again: the others are made.
    Warns (Caution) of strategies that cannot do what is asked. Raises ValueError or FileNotFoundError, for the
    first run at fault, and Changed for one that was made from other data or code.
    """
    seen = set()
    for run in (r for r in command.runs if again or not finished(r, site)):
        expect_same(run, site, data)
        same = replace(run, seed=0)
        if same not in seen:
            doubt = _doubt(run, site, data)
            if doubt:
                warnings.warn(f"{run.method} {doubt}", Caution, stacklevel=2)
            seen.add(same)


def _doubt(run: AnyRun, site: Site, data: Data) -> str:
    try:
        return workload(run).refuse(run, data.of(run), site)
    except SystemExit as e:
        if not asks_to_leave(e):
            raise
    except Exception as e:
        if not place(e):
            raise
    return ""


def conduct(
    command: Command,
    site: Site,
    executor: Callable[[], Executor],
    tracker: Tracker,
    watch: Watch = nobody,
) -> Comparison:
    """Make the runs of `command` that are not made yet, and report on all of them.

    executor: makes one; asked only where there is something to do.

    An interrupt (Ctrl-C) ends it early, with what has been reached so far. Raises Busy where another
    process has the same command in hand.
    """
    with room(site.home), command.held(site.home):
        sync.fetch_folder(command.folder(site.home), site)
        command.keep(site.home)
        note(command.folder(site.home), site)
        tracker.begin(command)
        ends: dict[str, Event] = {}
        stopped = False
        try:
            with watch(command) as shown:
                for event in made(command.runs, site, executor):
                    sync.heard(event, site)
                    if isinstance(event, Finished | Failed):
                        ends[event.run] = event
                    tracker.hear(event)
                    shown(event)
        except KeyboardInterrupt:
            stopped = True
        outcomes = [_outcome(run, site, ends.get(run.id)) for run in command.runs]
        path = command.folder(site.home) / "report.html"
        ours = reporting(command.runs[0])
        comparison = ours.compared(outcomes, command.line, str(path), stopped, how=command.how)
        unwritten = written(path, ours.report(comparison).encode())
        undelivered = tracker.end(comparison)
        sync.carry(command.folder(site.home), site)
        return replace(comparison, undelivered=undelivered, unwritten=unwritten)


def _outcome(run: AnyRun, site: Site, end: Event | None) -> Outcome:
    if isinstance(end, Finished):
        return Outcome.of(run, site)
    if isinstance(end, Failed):
        return Outcome.of(run, site, "failed", end.message)
    return Outcome.of(run, site, "stopped")
