"""The actors of a fleet: as many as the cluster has room for, another where one is lost, and one to spare."""

import logging
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..cluster import connection
from ..runs.any_run import AnyRun
from ..runs.workspace import Site
from .worker import Worker, machine

SPARE_BYTES = 1 << 30  # that a machine must have for it; torch alone takes half of that
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Slot:
    """An actor, and the runs that it has in hand: one, or several that are learned together."""

    actor: Any
    whereabouts: Any
    where: tuple[str, int] | None = None  # machine and process, once it is up
    runs: list[AnyRun] = field(default_factory=list)
    events: Any = None  # the stream of the runs' events
    heard: float = 0.0  # when the run last gave a sign of life
    ping: Any = None

    @property
    def free(self) -> bool:
        return self.where is not None and not self.runs


@dataclass
class Crew:
    site: Site
    most: int | None  # actors; as many as there is room for by default
    gpus: float  # of each
    slots: list[Slot] = field(default_factory=list, init=False)
    stillborn: int = field(default=0, init=False)  # actors since the last that came up
    grief: str = field(default="", init=False)  # why the last of them did not
    _spare: Slot | None = field(default=None, init=False)
    _cpus: int = field(default=0, init=False)

    def man(self, cpus: int, wanted: int) -> None:
        """Have an actor for every run that can be made at once. Raises TooFew."""
        room = connection.slots(self.most, cpus, self.gpus)
        if cpus != self._cpus:
            self.dismiss()
            self._cpus = cpus
        self.stillborn = 0
        while len(self.slots) < min(room, wanted):
            self.slots.append(self._started())

    def fit(self, waiting: int, spare: bool) -> None:
        """As many actors as the cluster has room for now: it may have lost a machine, or got one. And a spare one."""
        idle = sorted((slot for slot in self.slots if not slot.runs), key=lambda slot: slot.where is not None)
        for slot in idle[: max(0, -self._more())]:
            self._lose(slot)
        joined = max(0, min(self._more(), waiting - sum(not slot.runs for slot in self.slots)))
        if joined:
            self.slots += [self._started() for _ in range(joined)]
            log.warning("there is room again: %d at once from here on", len(self.slots))
        if spare and self._spare is None and not self.gpus and self.slots:
            self._spare = self._started(spare=True)

    def welcome(self, ready: list[Any]) -> None:
        """Those that are up, of the refs that are ready."""
        from ray.exceptions import RayError

        for slot in [slot for slot in (*self.slots, self._spare) if slot and slot.whereabouts in ready]:
            try:
                slot.where, self.stillborn = got(slot.whereabouts), 0
            except RayError as e:
                self.stillborn, self.grief = self.stillborn + 1, last_line(e)
                self.replace(slot)

    def starting(self) -> list[Any]:
        """Refs that are ready once another actor is up."""
        return [slot.whereabouts for slot in (*self.slots, self._spare) if slot and not slot.where]

    def replace(self, slot: Slot) -> None:
        """End an actor; the spare one takes its place, or a new one, if there is room for it still."""
        self._kill(slot)
        if slot is self._spare:
            self._spare = None
        elif self._more() < 0:
            self._lose(slot)
        elif self._spare and self._spare.where:
            self.slots[self.slots.index(slot)], self._spare = self._spare, None
        else:
            self.slots[self.slots.index(slot)] = self._started()

    def pause(self) -> bool:
        """Have all runs come to a checkpoint, and go no further."""
        for slot in self.slots:
            if slot.runs:
                ask(slot.actor.pause)
        return True

    def dismiss(self) -> None:
        import ray

        for slot in (*self.slots, self._spare):
            if slot:
                ray.kill(slot.actor)
        self.slots, self._spare = [], None

    def needs(self) -> str:
        return f"{self._cpus} CPU and {self.gpus:g} GPU"

    def _more(self) -> int:
        """Actors that there is room for beyond those that there are; below zero where a machine is gone."""
        return min(connection.room(self._cpus, self.gpus), self.most or 1 << 30) - len(self.slots)

    def _lose(self, slot: Slot) -> None:
        self.slots.remove(slot)
        self._kill(slot)
        log.warning("the cluster has lost a machine: %d at once from here on", len(self.slots))

    def _started(self, spare: bool = False) -> Slot:
        """A new actor, up some seconds later. A spare one asks for no CPU: it will have that of one that died."""
        import ray

        remote: Any = ray.remote
        needs: dict[str, Any] = {"num_cpus": self._cpus, "num_gpus": self.gpus}
        if spare:
            needs = {"num_cpus": 0, "memory": SPARE_BYTES, "scheduling_strategy": connection.where_there_is(self._cpus)}
        slot = Slot(remote(concurrency_groups={"pulse": 1}, max_restarts=0, **needs)(Worker).remote(self.site), None)
        slot.whereabouts = ask(slot.actor.whereabouts)
        return slot

    def _kill(self, slot: Slot) -> None:
        """End an actor that is dead or hangs, whatever it does."""
        import ray

        ray.kill(slot.actor)
        there, pid = slot.where or ("", 0)
        if there == machine():  # Ray asks a process to go; a stopped one does not hear it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def ask(method: Any) -> Any:
    """Of an actor, that answers while it has a run in hand."""
    return method.options(concurrency_group="pulse").remote()


def is_ready(ref: Any) -> bool:
    import ray

    return bool(ray.wait([ref], timeout=0)[0])


def got(ref: Any) -> Any:
    import ray

    return ray.get(ref)


def last_line(error: Exception) -> str:
    """What is wrong, without the way there: the end of a traceback."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
