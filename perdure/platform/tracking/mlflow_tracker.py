"""Mirrors journals in MLflow: a parent run for every command, a child for each run.

The journals are the truth. What of them MLflow has is written down beside them, so that whoever comes next delivers
the rest: after an outage, or after this process was killed. Everything that is sent twice is the same to the last
bit, timestamps too, and MLflow keeps it once.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ..runs.events import Event, Failed, Finished, Reached
from ..runs.study import Command
from ..runs.workspace import Site
from ..storage.secrets import masked
from . import ended
from .access import GREETING, expect_database, refused
from .addresses import file_of
from .command_mirror import CommandMirror
from .delivery import Delivery
from .late import deliver_late, left_behind
from .mlflow_client import Server, loaded
from .refusals import Refusals, away, told, words
from .tracker import Told

PAUSES = (0.5, 1, 2, 5, 10)  # seconds between attempts to reach a server that is away
log = logging.getLogger(__name__)


class _Servers(dict[str, Server]):
    """One MLflow for every experiment by name: a command of before is delivered to its own."""

    def __init__(self, uri: str):
        self.uri = uri

    def __missing__(self, name: str) -> Server:
        return self.setdefault(name, Server(self.uri, name))


class _GivenUp(Exception):
    """Nobody waits for what is delivered any more."""


@dataclass
class MLflow:
    """Tracker with one writer, a thread of this process.

    uri: of the tracking store. patience: seconds to wait at the end since MLflow has taken anything.
    """

    site: Site
    uri: str
    patience: float = 20.0
    _mirror: Any = field(default=None, init=False)
    _problem: str = field(default="", init=False)  # why nothing can be sent just now
    _refusal: str = field(default="", init=False)  # of everything, before anything was taken
    _last: float = field(default=0.0, init=False)  # when something was taken
    _late: list[Refusals] = field(default_factory=list, init=False)  # of commands of before
    _wake: threading.Event = field(default_factory=threading.Event, init=False)
    _met: threading.Event = field(default_factory=threading.Event, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)
    _done: threading.Event = field(default_factory=threading.Event, init=False)

    def begin(self, command: Command) -> None:
        """Raises ValueError where MLflow refuses, or its address is none."""
        file = file_of(self.uri)
        if file is not None:
            expect_database(self.uri, file, command.how.get("experiment", ""))
        self._mirror = CommandMirror(command, self.site, self.uri)
        first = not self._mirror.path.exists()
        self._mirror.begin()
        threading.Thread(target=self._write, name="mlflow", daemon=True).start()
        if file is None:
            loaded()
            self._met.wait(GREETING)
            if self._refusal:
                self._done.set()
                self._ended.set()
                if first:
                    self._mirror.forget()
                raise ValueError(refused(self.uri, self._refusal))

    def grow(self, command: Command) -> None:
        self._mirror.grow(command)

    def hear(self, event: Event) -> None:
        if isinstance(event, Reached | Finished | Failed):
            end = {Reached: "", Finished: "finished", Failed: "failed"}[type(event)]
            self._mirror.hear(event.run, end)
            self._wake.set()

    def end(self, comparison: Told) -> str:
        try:
            ended.keep(self._mirror.folder, comparison)
        except OSError as e:
            self._done.set()
            return f"MLflow lacks what this came to ({e}); make room, and perdure resume sends it"
        self._last = time.monotonic()
        self._ended.set()
        self._wake.set()
        while (left := self._last + self.patience - time.monotonic()) > 0 and not self._done.wait(left):
            pass  # it takes one thing after the other, so there is an end to it
        delivered = self._done.is_set()
        self._done.set()
        return self._said(delivered)

    def _said(self, delivered: bool) -> str:
        where, said = f"MLflow at {masked(self.uri)}", []
        if not delivered:
            why = self._problem or f"it has taken nothing for {self.patience:g} s"
            said.append(f"{where} is away ({why}); the next command delivers what it lacks")
        for refusals in (self._mirror.refusals, *self._late):
            if new := refusals.new:
                more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
                said.append(f"{where} refuses {new[0]}{more}; the next command tries again; see {refusals.path}")
        return "\n".join(said)

    def _write(self) -> None:
        """The writer: whatever is new, then what former commands left behind, until all is delivered."""
        servers = _Servers(self.uri)
        server, pause, late = servers[self._mirror.experiment], 0, None
        to = Delivery(server, self._mirror.refusals, self._beat)
        while not self._done.is_set():
            self._wake.clear()
            over = self._ended.is_set()
            try:
                self._mirror.open(to)
                self._met.set()
                whole = self._mirror.deliver(to, over)
                late = list(left_behind(self.site, self.uri, self._mirror.command.id)) if late is None else late
                while late:
                    self._deliver_late(late[0], servers[late[0].experiment])
                    late.pop(0)
            except _GivenUp:
                return
            except Exception as e:  # whatever is wrong there, training goes on, and `end` tells of it
                if not away(e, self.uri):
                    self._refused(e, over)
                    continue
                self._problem, whole = words(e), False
                self._met.set()
                log.info("MLflow does not take it: %s", self._problem)
            else:
                self._problem = next(iter(to.troubled.values()), "")
            self._rest(whole, over, pause)
            pause = 0 if whole else pause + 1

    def _rest(self, whole: bool, over: bool, pause: int) -> None:
        """Until there is something to do."""
        if not whole:
            time.sleep(PAUSES[min(pause, len(PAUSES) - 1)])
        elif over:
            self._done.set()
        else:
            self._wake.wait()

    def _refused(self, error: Exception, over: bool) -> None:
        """All of it: it is tried once more at the end, as somebody may have seen to it."""
        self._mirror.refused(error)
        if not self._met.is_set():
            self._refusal = told(error)
            self._met.set()
        if over:
            self._done.set()
        else:
            self._ended.wait()

    def _deliver_late(self, mirror: CommandMirror, server: Server) -> None:
        deliver_late(mirror, Delivery(server, mirror.refusals, self._beat))
        self._late.append(mirror.refusals)

    def _beat(self) -> None:
        self._last = time.monotonic()
        if self._done.is_set():
            raise _GivenUp
