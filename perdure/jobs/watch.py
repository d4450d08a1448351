"""What is seen while runs are made: a live table on a terminal, plain lines elsewhere. All on standard error."""

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..platform.events import Event


class Watch(Protocol):
    def __enter__(self) -> "Watch": ...

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, event: "Event") -> None: ...


class _Tally:
    """What the events have told so far."""

    def __init__(self):
        self.runs, self.reached, self.length, self.done = {}, defaultdict(int), {}, set()
        self.known: dict[str, tuple[str, float]] = {}  # what a run has come to, and what that is
        self.start = time.monotonic()

    def hear(self, event: "Event") -> None:
        from ..platform.events import Failed, Finished, Reached, Started

        match event:
            case Started():
                self.length[event.run] = event.experiences
                self.reached[event.run] = 0
            case Reached():
                self.reached[event.run] = event.place + 1
                self.known[event.run] = _come_to(event.row)
            case Finished() | Failed():
                self.done.add(event.run)
                if isinstance(event, Failed):
                    self.known.pop(event.run, None)  # it has not come to what it had reached

    def share(self, run: str) -> float:
        return 1.0 if run in self.done else self.reached[run] / self.length.get(run, 1e9)


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
        self._console, self._tally = console, _Tally()
        self._runs = {run.id: run for run in command.runs}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __call__(self, event):
        from ..platform.events import Awaited, Failed, Finished, Grouped, Lost, Repaired, Started

        self._tally.hear(event)
        run = self._runs[event.run]
        name = f"{run.method} seed {run.seed}"
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
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


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
        from ..platform.events import Awaited, Failed, Grouped, Lost, Repaired

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
