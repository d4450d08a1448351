"""Keeping a model current: what arrives is learned, judged, kept, tracked, and registered as a new version."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...notation import NotationError
from ...strategies import names
from ...strategies.base import Strategy
from ...strategies.training.plan import Plan
from ...strategies.training.requirements import Caution, caution
from ...streams.live.folder import Folder
from ...streams.live.source import Generated, LiveSource
from ...streams.names import live_source
from ..execution.execute import picture
from ..figures import live
from ..runs import dry_run
from ..runs import plugins as modules
from ..runs.job_record import note
from ..runs.journal import Row
from ..runs.study import held
from ..runs.workspace import PICTURES, Site, absolute
from .model_registry import Registration, Registry
from .pipeline import Apart, Here, Pair
from .settings import Following, room
from .state import Kept

DRAWING = 10.0  # seconds between two drawings, of which the last is always made


@dataclass(frozen=True)
class Followed:
    """What a stream has come to so far."""

    following: Following
    folder: str
    rows: list[Row] = field(repr=False)
    asides: list[Row] = field(repr=False)
    stopped: bool = False  # by an interrupt
    undelivered: str = ""  # why MLflow does not have all of it

    @property
    def accuracy(self) -> dict[str, float]:
        """Of every class, on all that was held out of it so far."""
        classes = self.rows[-1]["classes"] if self.rows else {}
        return {label: right / count for label, (count, right) in classes.items()}


Hear = Callable[[str, Any], None]  # what is told as it happens: "arrival" and its row, "aside" and its line, "said"


def follow(
    source: str | LiveSource | Callable[[], Iterator[Any]],
    strategy: str | Strategy = "rehearsal(500)",
    *,
    state: str,
    classes: int | str | tuple[str, ...] | list[str] = 10,
    model: str = "mlp(64, 64)",
    optimizer: str = "adam",
    epochs: int = 20,
    steps: int | None = None,
    batch_size: int = 32,
    hold_out: float = 0.2,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    arrivals: int | None = None,
    idle: float | None = None,
    ahead: int = 2,
    here: bool = False,
    address: str | None = None,
    save_every: float | None = 60.0,
    tracking: bool = True,
    tracking_uri: str | None = None,
    experiment: str = "",
    register: str | None = None,
    alias: str = "champion",
    tolerance: float = 0.02,
    plugins: tuple[str, ...] = (),
    hear: Hear = lambda what, of: None,
) -> Followed:
    """Learn what arrives, each arrival as one experience, and go on where the folder `state` says.

    source: a folder that receives files, as a path or as `"folder('inbox', label='kind')"`; the name of a source of
    one's own; a LiveSource; or a generator function of `(x, y)` or `(id, x, y)`.
    classes: room for so many classes, or their names, as `"cat,dog,fox"`.
    arrivals: stop once so many are learned in all. idle: stop after so many seconds without one.
    ahead: arrivals that the stream actor reads before the learner actor takes them; here nothing is read ahead.
    experiment: of MLflow, by name.
    register: name in MLflow's model registry, where every arrival makes a version. alias: it moves to the newest
    version unless a class's accuracy on what was held out fell by more than `tolerance` against the one that has it.
    hear: told of everything as it happens.

    Raises NotationError (a ValueError) for texts that cannot be read, ValueError for what does not fit together, for a
    folder whose stream is learned in another way, or that another process is at work on (Busy), FileNotFoundError
    where there is no folder to follow.
    """
    modules.load(plugins)
    count, named = room(classes)
    text = strategy if isinstance(strategy, str) else names.spelled(strategy)
    plan = Plan(epochs, batch_size, steps)
    asked = Following(text, count, named, model, optimizer, seed, plan, hold_out, threads, device).normal()
    if ahead < 1 or tolerance < 0:
        raise ValueError(f"expected ahead of 1 at least and tolerance of 0 at least, got {ahead} and {tolerance:g}")
    given, site = _source(source), Site(state, plugins=plugins, every_seconds=save_every)
    if isinstance(given, Folder) and Path(given.folder) in (Path(site.home), *Path(site.home).parents):
        raise ValueError(f"the state {site.home} lies in the folder that is followed; name a folder elsewhere")
    doubt = caution(names.strategy(text), "class")
    if doubt:
        warnings.warn(f"{text} {doubt.partition(':')[0]}; where classes are new in later arrivals, add a memory, as "
                      "rehearsal(500)", Caution, stacklevel=2)  # fmt: skip
    registration = Registration(register, alias, tolerance) if register else None
    if registration and not tracking:
        raise ValueError("a version is registered in MLflow: ask for tracking, or leave out the name to register")
    if isinstance(given, Folder) and isinstance(source, str):
        dry_run.ends(paths=[given.folder if given.folder in source else os.path.relpath(given.folder)])
    dry_run.ends()
    kept = Kept(Path(site.home))
    with held(kept.path):
        known = kept.begin(asked)
        note(Path(site.home), site)
        registry = _registry(kept, asked, known["created"], tracking, tracking_uri, experiment, registration)

        def pair() -> Pair:
            if here:
                return Here(given, asked, site, registration is not None, idle)
            return Apart(given, asked, site, registration is not None, idle, ahead, address)

        return _Conduct(kept, asked, registry, hear).made(pair, arrivals)


@dataclass
class _Conduct:
    """One process at work on a stream, from where it is found until it is to stop."""

    kept: Kept
    following: Following
    registry: Registry | None
    hear: Hear
    _rows: int = 0  # told so far
    _asides: int = 0
    _drawn: float = 0.0  # when
    _undrawn: bool = True

    def made(self, pair: Callable[[], Pair], arrivals: int | None) -> Followed:
        stopped = False
        self._rows, self._asides = len(self.kept.journal.rows()), len(self.kept.asides())
        if self._rows:
            self.hear("said", f"goes on after {self._rows} arrivals learned")
        self._undrawn = not (self.kept.path / PICTURES).exists()
        if self.registry is not None:
            self.registry.greet()
        self._deliver("RUNNING")
        try:
            if arrivals is None or self._rows < arrivals:
                with closing(pair()) as both:
                    self._learn(both, arrivals)
        except KeyboardInterrupt:
            stopped = True
        except BaseException:
            self._end("FAILED")
            raise
        self._tell(delivered=False)
        self._end("KILLED" if stopped else "FINISHED")
        rows, asides = self.kept.journal.rows(), self.kept.asides()
        undelivered = self.registry.problem if self.registry else ""
        return Followed(self.following, str(self.kept.path), rows, asides, stopped, undelivered)

    def _learn(self, both: Pair, arrivals: int | None) -> None:
        both.go_on()
        self._tell()
        for item in both.items() if arrivals is None or self._rows < arrivals else ():
            both.take(item)
            self._tell()
            if arrivals is not None and self._rows >= arrivals:
                return

    def _tell(self, delivered: bool = True) -> None:
        """What is new in the folder, to whoever listens and to MLflow."""
        asides, rows = self.kept.asides(), self.kept.journal.rows()
        for aside in asides[self._asides :]:
            self.hear("aside", aside)
        for row in rows[self._rows :]:
            self.hear("arrival", row)
        fresh, self._rows, self._asides = len(rows) > self._rows, len(rows), len(asides)
        self._undrawn = self._undrawn or fresh
        if fresh and delivered:
            self._deliver("RUNNING")
            if time.monotonic() - self._drawn > DRAWING:
                self._draw(rows)

    def _end(self, status: str) -> None:
        self._deliver(status)
        if self._undrawn:
            self._draw(self.kept.journal.rows())

    def _deliver(self, status: str) -> None:
        if self.registry is not None:
            for said in self.registry.deliver(status):
                self.hear("said", said)

    def _draw(self, rows: list[Row]) -> None:
        self._drawn, self._undrawn = time.monotonic(), False
        for name, figure in live.drawn(rows).items() if rows else ():
            picture(self.kept.path / PICTURES, name, figure)


def _source(given: str | LiveSource | Callable[[], Iterator[Any]]) -> LiveSource:
    if isinstance(given, LiveSource):
        return given
    if not isinstance(given, str):
        return Generated(given)
    if Path(given).expanduser().is_dir():
        return Folder(given)
    try:
        source = live_source(given)
    except NotationError:
        if "(" in given:
            raise
        if dry_run.asked():
            return Folder(given)
        raise FileNotFoundError(f"{_nothing(given)}, or a source of your own with --plugin") from None
    if isinstance(source, Folder) and not Path(source.folder).is_dir() and not dry_run.asked():
        raise FileNotFoundError(_nothing(source.folder))
    return source


def _nothing(folder: str) -> str:
    return f"no folder {absolute(folder)} to follow; make it, or name another"


def _registry(
    kept: Kept,
    following: Following,
    created: int,
    tracking: bool,
    uri: str | None,
    experiment: str,
    registration: Registration | None,
) -> Registry | None:
    if not tracking:
        return None
    from ..tracking.addresses import default_uri

    return Registry(kept, following, created, uri or default_uri(), registration, experiment)
