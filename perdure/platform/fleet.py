"""A fleet of warm Ray actors: a run goes to a free one, and to another where that one dies or hangs."""

import os
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from . import cluster
from .events import Event, Failed, Finished, Lost
from .executor import Data
from .kinds import AnyRun
from .site import Site
from .worker import Worker, packed


@dataclass
class _Slot:
    """An actor, and the run that it has in hand."""

    actor: Any
    where: tuple[str, int] | None = None
    whereabouts: Any = None
    run: AnyRun | None = None
    events: Any = None  # the stream of the run's events
    heard: float = 0.0  # when the run last gave a sign of life
    ping: Any = None


@dataclass
class Fleet:
    """Makes runs on a Ray cluster, one on each of `slots` actors at a time.

    slots: as many as the cluster has CPUs (and GPUs) for by default. gpus_per_run: a fraction lets runs
    share one. silence: seconds without a step after which a run is taken from its actor. retries: how
    often a run may lose its actor. The home folder must be one that every node sees.

    Raises TooFew where the cluster has less than is asked for.
    """

    site: Site
    slots: int | None = None
    gpus_per_run: float = 0.0
    address: str | None = None
    silence: float = 300.0
    retries: int = 3
    data: Data | None = None
    _slots: list[_Slot] = field(default_factory=list, init=False)
    _held: dict[str, Any] = field(default_factory=dict, init=False)  # data sets in the object store
    _cpus: int = field(default=0, init=False)

    def __post_init__(self):
        self._ours = cluster.connect(self.address)
        self._data = self.data or Data(self.site)

    def map(self, runs: Sequence[AnyRun]) -> Iterator[Event]:
        waiting, losses = deque(runs), Counter()
        if not runs:
            return
        self._man(max(r.threads for r in runs), len(runs))
        try:
            while waiting or any(slot.run for slot in self._slots):
                for slot in [s for s in self._slots if s.run is None][: len(waiting)]:
                    yield from self._give(slot, waiting.popleft())
                for slot, event in self._listen():
                    if isinstance(event, Lost):
                        run, slot.run = slot.run, None
                        assert run
                        self._replace(slot)
                        losses[run.id] += 1
                        if losses[run.id] > self.retries:
                            event = Failed(run.id, "lost", f"lost its actor {losses[run.id]} times: {event.reason}")
                        else:
                            waiting.appendleft(run)
                    yield event
        finally:
            if any(slot.run for slot in self._slots):  # whoever stopped listening wants no more work done
                self._dismiss()

    def close(self) -> None:
        self._dismiss()
        self._held.clear()
        if self._ours:
            cluster.disconnect()

    def _man(self, threads: int, wanted: int) -> None:
        """Have an actor for every run that can be made at once."""
        room = cluster.slots(self.slots, threads, self.gpus_per_run)
        if threads != self._cpus:
            self._dismiss()
            self._cpus = threads
        while len(self._slots) < min(room, wanted):
            self._slots.append(_Slot(None))
            self._start(self._slots[-1])

    def _dismiss(self) -> None:
        import ray

        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots = []

    def _start(self, slot: _Slot) -> None:
        import ray

        remote: Any = ray.remote
        needs = {"num_cpus": self._cpus, "num_gpus": self.gpus_per_run, "max_restarts": 0}
        slot.actor = remote(concurrency_groups={"pulse": 1}, **needs)(Worker).remote(self.site)
        slot.whereabouts, slot.where = slot.actor.whereabouts.options(concurrency_group="pulse").remote(), None
        slot.run = slot.events = slot.ping = None

    def _replace(self, slot: _Slot) -> None:
        self._kill(slot)
        self._start(slot)

    def _kill(self, slot: _Slot) -> None:
        """End an actor that is dead or hangs, whatever it does."""
        import ray

        ray.kill(slot.actor)
        host, pid = slot.where or (None, 0)
        if host == socket.gethostname():  # Ray asks a process to go; a stopped one does not hear it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _give(self, slot: _Slot, run: AnyRun) -> Iterator[Event]:
        source = run.source()
        try:
            dataset = self._data.of(run)
        except (ValueError, FileNotFoundError) as e:
            yield Failed(run.id, "user", str(e))
            return
        key = repr(source)
        if key not in self._held:
            import ray

            self._held[key] = ray.put(packed(dataset) if dataset else None)
        slot.run, slot.heard, slot.ping = run, time.monotonic(), None
        slot.events = slot.actor.make.options(num_returns="streaming").remote(run, key, self._held[key])

    def _listen(self) -> Iterator[tuple[_Slot, Event]]:
        """What the busy actors have to tell, after waiting a moment for it."""
        import ray

        busy = [slot for slot in self._slots if slot.run]
        if not busy:
            return
        patience = min(1.0, self.silence / 4)
        streams: list[Any] = [slot.events for slot in busy]
        ready, _ = ray.wait(streams, timeout=patience, fetch_local=False)
        for slot in busy:
            event = self._next(slot) if slot.events in ready else self._checked(slot)
            if event is not None:
                yield slot, event

    def _next(self, slot: _Slot) -> Event | None:
        from ray.exceptions import RayActorError, RayError

        assert slot.run
        try:
            event = _got(next(slot.events))
        except StopIteration:
            return None
        except RayActorError as e:
            return Lost(slot.run.id, f"its actor died ({type(e).__name__})")
        except RayError as e:
            failed, slot.run = slot.run.id, None
            return Failed(failed, "error", str(e))
        slot.heard = time.monotonic()
        if isinstance(event, Finished | Failed):
            slot.run = None
        return event

    def _checked(self, slot: _Slot) -> Lost | None:
        """Ask a silent actor for its last step; Lost where that is too long ago."""
        from ray.exceptions import RayError

        assert slot.run
        now = time.monotonic()
        if slot.ping is not None and _is_ready(slot.ping):
            with suppress(RayError):  # it is dead: the stream of events says so itself
                slot.heard = max(slot.heard, now - _got(slot.ping))
            slot.ping = None
        if slot.where is None and _is_ready(slot.whereabouts):
            try:
                slot.where = _got(slot.whereabouts)
            except RayError as e:
                return Lost(slot.run.id, f"its actor did not start ({e})")
        if now - slot.heard > self.silence:
            return Lost(slot.run.id, f"no step for {self.silence:g} s")
        if slot.ping is None and now - slot.heard > self.silence / 4:
            slot.ping = slot.actor.silence.options(concurrency_group="pulse").remote()
        return None


def _is_ready(ref: Any) -> bool:
    import ray

    return bool(ray.wait([ref], timeout=0)[0])


def _got(ref: Any) -> Any:
    import ray

    return ray.get(ref)
