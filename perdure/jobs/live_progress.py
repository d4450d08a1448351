"""What is seen while runs are made: a live table on a terminal, plain lines elsewhere. All on standard error."""

from collections import defaultdict
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from .progress import Minutely, Pace, minutely
from .terminal import saying

if TYPE_CHECKING:
    from ..platform.runs.events import Event, Kept

UNDER_WAY = 4  # runs of which a line tells where they are


class Watch(Protocol):
    def __enter__(self) -> "Watch": ...

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, event: "Event") -> None: ...


class _Tally:
    """What the events have told so far."""

    def __init__(self):
        self.reached, self.length, self.done, self.failed = defaultdict(int), {}, set(), set()
        self.known: dict[str, tuple[str, float]] = {}  # what a run has come to, and what that is
        self.kept: dict[str, Kept] = {}  # where a run is since its last milestone
        self.first: dict[str, float] = {}  # of a run that was begun here, or gone on with: its share then

    def hear(self, event: "Event") -> None:
        from ..platform.runs.events import Failed, Finished, Kept, Reached, Started

        match event:
            case Started():
                self.length[event.run] = event.experiences
                self.kept.pop(event.run, None)
                if not event.resumed:
                    self.reached[event.run] = 0
                    self.first.setdefault(event.run, 0.0)
                return  # where one is that goes on, its next word tells
            case Reached():
                self.kept.pop(event.run, None)
                self.reached[event.run] = event.place + 1
                self.known[event.run] = _come_to(event.row)
            case Kept():
                self.kept[event.run] = event
            case Finished() | Failed():
                self.done.add(event.run)
                if isinstance(event, Failed):
                    self.failed.add(event.run)
                    self.known.pop(event.run, None)  # it has not come to what it had reached
        if event.run in self.failed:
            self.first.pop(event.run, None)  # nor says how long the others take
        elif event.run in self.length:
            self.first.setdefault(event.run, self.share(event.run))

    def share(self, run: str) -> float:
        if run in self.done:
            return 1.0
        return self.kept[run].share if run in self.kept else self.reached[run] / self.length.get(run, 1e9)

    def where(self, run: str, part: str) -> str:
        """Of a run that is under way. part: what it has so many of."""
        if run in self.kept:
            return self.kept[run].where
        return f"{part} {min(self.reached[run] + 1, self.length[run]):,} of {self.length[run]:,}"


def _come_to(row) -> tuple[str, float]:
    """Accuracy on all experiences so far; of a meta-learner, on validation tasks; or the loss there."""
    if "experience" in row:
        seen = [value for value in row["accuracy"][: row["experience"] + 1] if value is not None]
        return "accuracy", sum(seen) / len(seen) if seen else float("nan")
    what = "accuracy" if "accuracy" in row["judged"] else "loss"
    value = row["judged"][what][-1]
    return what, float("nan") if value is None else value


def _said(what: str, value: float) -> str:
    return f"accuracy {100 * value:.1f} %" if what == "accuracy" else f"{what} {value:.3g}"


class Lines:
    """A line for every run that ends, is lost, or is gone on with."""

    def __init__(self, command, console):
        self._console, self._tally, self._lock = console, _Tally(), Lock()
        self._pace: Pace | None = None  # since the first run began: before, a cluster may be started
        self._runs = {run.id: run for run in command.runs}
        self._minutely = Minutely(self._progress, self._say)

    def __enter__(self):
        self._minutely.__enter__()
        return self

    def __exit__(self, *error):
        self._minutely.__exit__()

    def __call__(self, event):
        with self._lock:
            self._heard(event)

    def _progress(self) -> str:
        """How many runs are done, how long the others take, and where those are that are under way."""
        with self._lock:
            tally = self._tally
            done = sum(tally.share(run) - first for run, first in tally.first.items())
            rest = sum(1 - tally.share(run) for run in self._runs)
            left = self._pace.left(done, rest) if self._pace else ""
            failed = f" ({len(tally.failed)} failed)" if tally.failed else ""
            going = [run for run in self._runs if run in tally.length and run not in tally.done]
            places = [f"{self._name(run)}: {tally.where(run, self._part)}" for run in going[:UNDER_WAY]]
            more = [f"and {len(going) - UNDER_WAY} more"] if len(going) > UNDER_WAY else []
            return "; ".join([f"{len(tally.done)} of {len(self._runs)} runs{failed}{left}", *places, *more])

    def _name(self, run: str) -> str:
        return f"{self._runs[run].method} seed {self._runs[run].seed}"

    @property
    def _part(self) -> str:
        """What runs of this command consist of."""
        from ..platform.runs.meta_run import MetaRun

        return "milestone" if any(isinstance(run, MetaRun) for run in self._runs.values()) else "experience"

    def _heard(self, event):
        from ..platform.runs.events import Awaited, Failed, Finished, Grouped, Lost, Repaired, Started

        self._tally.hear(event)
        if self._pace is None and isinstance(event, Started):
            self._pace = Pace()
        name = self._name(event.run)
        count = f"[{len(self._tally.done)}/{len(self._runs)}]"
        match event:
            case Grouped():
                self._say(event.why)
            case Started(resumed=True):
                self._say(f"{name}: goes on from its checkpoint (attempt {event.attempt})")
            case Finished():
                known = ", known from before" if event.again else ""
                self._say(f"{count} {name}: {_said(*self._tally.known[event.run])}{known}")
            case Failed():
                self._say(f"{count} {name}: failed: {event.message}")
            case Lost():
                self._say(f"{name}: {event.reason}; another actor goes on with it")
            case Awaited():
                self._say(f"{name}: another command is making it, and is waited for")
            case Repaired():
                self._say(f"{name}: {event.problem}")

    def _say(self, text: str) -> None:
        saying(self._console)(text)


class Live:
    """A bar for every strategy, over all of its seeds."""

    def __init__(self, command, console):
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._tally, self._lines = _Tally(), Lines(command, console)
        self._runs = {run.id: run for run in command.runs}
        columns = (BarColumn(28), TextColumn("{task.fields[count]}"), TextColumn("{task.fields[known]}"))
        name = TextColumn("{task.description}", markup=False)
        self._progress = Progress(name, *columns, TimeElapsedColumn(), console=console)
        self._tasks = {
            s: self._progress.add_task(s, total=sum(r.method == s for r in command.runs), count="", known="")
            for s in command.methods
        }

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *error):
        self._progress.stop()

    def __call__(self, event):
        from ..platform.runs.events import Awaited, Failed, Grouped, Lost, Repaired

        self._tally.hear(event)
        if isinstance(event, Awaited | Failed | Grouped | Lost | Repaired):
            self._lines(event)
        method = self._runs[event.run].method
        own = [id for id, run in self._runs.items() if run.method == method]
        done = sum(id in self._tally.done for id in own)
        known = [self._tally.known[id] for id in own if id in self._tally.known]
        self._progress.update(
            self._tasks[method],
            completed=sum(map(self._tally.share, own)),
            count=f"{done}/{len(own)}",
            known=_said(known[0][0], sum(value for _, value in known) / len(known)) if known else "",
        )


def watch(command, console) -> Watch:
    return Live(command, console) if console.is_terminal else Lines(command, console)


class Trials:
    """A line for every trial of a search that has come to an end; in between, how many have, and the best of them."""

    def __init__(self, console, at_first: str = ""):
        self._console, self._told = console, at_first
        self._ended: set[int] = set()
        self._minutely = minutely(lambda: self._told, console)

    def __enter__(self):
        self._minutely.__enter__()
        return self

    def __exit__(self, *error):
        self._minutely.__exit__(*error)

    def __call__(self, tried, so_far):
        from ..platform.search.results import shown, title
        from .views.search import trial

        search, best = so_far.search, so_far.best[:1]
        self._ended.add(tried.number)
        of = len(search.points()) if search.by == "grid" else search.trials
        values = [f"{title(aim)} {shown(aim, v)}" for t in best for aim, v in zip(search.aims, t.values, strict=True)]
        known = [f", best so far trial {t.number}: {t.method}: {', '.join(values)}" for t in best]
        told = f"{len(self._ended)} of {of} trials{''.join(known)}"
        trial(tried, self._console)
        self._told = told if len(self._ended) < of else ""  # from then on the best are made again, and watched
        if not self._told and not self._console.is_terminal:
            saying(self._console)(f"progress: {told}")
