"""A fleet of warm Ray actors: a run goes to a free one, and to another where that one dies or hangs."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ...streams.datasets.dataset import Dataset
from ..cluster import connection
from ..execution.replicas import pieces
from ..runs.any_run import AnyRun
from ..runs.datasets import UNSHARED, Data, packed
from ..runs.events import Event, Failed, Finished, Grouped, Lost, Reached
from ..runs.workspace import Site
from ..storage import signals
from ..storage.checkpoints import Store
from .actor_pool import Crew, Slot, ask, got, is_ready, last_line

NODE = "node has died"  # what Ray says of an actor whose machine it has lost
STARTING = 120.0  # seconds that an actor may take to come up, torch and all, on a machine that is busy
log = logging.getLogger(__name__)


@dataclass
class Fleet:
    """Makes runs on a Ray cluster, one on each of `slots` actors at a time.

    slots: as many as the cluster has CPUs (and GPUs) for by default. gpus_per_run: a fraction lets runs
    share one. silence: seconds without a step after which a run is taken from its actor. retries: how
    often a run may lose its actor at one place; where it has come further in between, it counts anew.
    spare_after: seconds of work after which one more actor is held warm, for the first that dies; none where
    runs need GPUs. The home folder must be one that every node sees.

    It shrinks where the cluster loses a machine, and grows where one joins while runs wait.

    Raises TooFew where the cluster has less than is asked for.
    """

    site: Site
    slots: int | None = None
    gpus_per_run: float = 0.0
    address: str | None = None
    silence: float = 300.0
    retries: int = 3
    data: Data | None = None
    spare_after: float = 10.0
    _held: dict[str, Any] = field(default_factory=dict, init=False)  # data sets in the object store
    _losses: Counter[str] = field(default_factory=Counter, init=False)  # of a run, since it last came further
    _come: dict[str, int] = field(default_factory=dict, init=False)  # the last milestone of a run that was told of
    _places: dict[str, tuple[int, str]] = field(default_factory=dict, init=False)  # where it was when it lost its actor

    def __post_init__(self):
        self._ours = connection.connect(self.address)
        self._data = self.data or Data(self.site)
        self._crew = Crew(self.site, self.slots, self.gpus_per_run)

    def map(self, runs: Sequence[AnyRun]) -> Iterator[Event]:
        with signals.patiently():
            yield from self._made(runs)

    def _made(self, runs: Sequence[AnyRun]) -> Iterator[Event]:
        crew, paused = self._crew, False
        if not runs:
            return
        crew.man(max(r.threads for r in runs), len(runs))
        waiting = deque(pieces(runs, self.site, len(crew.slots)))
        self._losses.clear()
        begun = looked = manned = time.monotonic()
        try:
            while waiting or any(slot.runs for slot in crew.slots):
                if signals.asked():
                    waiting.clear()
                    paused = paused or crew.pause()
                for slot in [s for s in crew.slots if s.free][: len(waiting)]:
                    yield from self._give(slot, waiting.popleft())
                for slot, event in self._listen(bool(waiting)):
                    if isinstance(event, Grouped) and not event.together:  # the actor makes the first of them
                        waiting.extendleft([run] for run in reversed(slot.runs[1:]))
                        slot.runs = slot.runs[:1]
                    if isinstance(event, Lost):
                        yield from self._again(slot, event, waiting)
                    else:
                        if isinstance(event, Reached):
                            self._come[event.run] = max(event.place, self._come.get(event.run, -1))
                        yield event
                now = time.monotonic()
                if any(slot.where for slot in crew.slots):
                    manned = now
                elif crew.stillborn > self.retries or now - manned > max(self.silence, STARTING):
                    yield from self._given_up(waiting, now - manned)
                if now - looked > 1.0:
                    looked = now
                    crew.fit(len(waiting), now - begun > self.spare_after)
        finally:
            if any(slot.runs for slot in crew.slots):  # whoever stopped listening wants no more work done
                crew.dismiss()

    def close(self) -> None:
        self._crew.dismiss()
        self._held.clear()
        if self._ours:
            connection.disconnect()

    def _again(self, slot: Slot, lost: Lost, waiting: deque[list[AnyRun]]) -> Iterator[Event]:
        """Another actor for the slot, and the runs, before all others, for the first that is free; or their end."""
        runs, slot.runs, left = slot.runs, [], []
        self._crew.replace(slot)
        for run in runs:
            place = self._come.get(run.id, -1), Store(self.site.folder(run)).place()  # none here of remote storage
            furthest = self._places.get(run.id, (-1, ""))
            if place > furthest:
                self._losses[run.id] = 0
            self._places[run.id] = max(place, furthest)
            self._losses[run.id] += 1
            count = self._losses[run.id]
            if count > self.retries:
                why = f"lost its actor {count} times at one place, the last time: {lost.reason}"
                yield Failed(run.id, "lost", why)
            else:
                left.append(run)
                yield Lost(run.id, lost.reason)
        if left:
            waiting.appendleft(left)

    def _given_up(self, waiting: deque[list[AnyRun]], seconds: float) -> Iterator[Event]:
        """There is nobody, and nobody comes."""
        why = f"no actor for {seconds:.0f} s: no machine of the cluster has {self._crew.needs()} to give"
        if self._crew.stillborn > self.retries:
            why = f"{self._crew.stillborn} actors in a row did not start: {self._crew.grief}"
        while waiting:
            yield from (Failed(run.id, "lost", why) for run in waiting.popleft())

    def _give(self, slot: Slot, runs: list[AnyRun]) -> Iterator[Event]:
        try:
            dataset = self._data.of(runs[0])
        except (ValueError, FileNotFoundError) as e:
            yield from (Failed(run.id, "user", str(e)) for run in runs)
            return
        key = repr(runs[0].source())
        if key not in self._held:
            self._held[key] = self._put(key, dataset)
        slot.runs, slot.heard, slot.ping = runs, time.monotonic(), None
        slot.events = slot.actor.make.options(num_returns="streaming").remote(runs, key, self._held[key])

    def _put(self, key: str, dataset: Dataset | None) -> Any:
        """A data set as every actor of a machine reads it, once; or word that each is to load its own."""
        import ray
        from ray.exceptions import ObjectStoreFullError, OutOfDiskError

        try:
            return ray.put(packed(dataset) if dataset else None)
        except (ObjectStoreFullError, OutOfDiskError):
            log.warning("Ray's object store has no room for %s: every actor loads it from its source", key)
            return UNSHARED

    def _listen(self, waiting: bool) -> Iterator[tuple[Slot, Event]]:
        """What the busy actors have to tell, after waiting a moment for it, or for another to be up."""
        import ray

        busy = [slot for slot in self._crew.slots if slot.runs]
        streams: list[Any] = [slot.events for slot in busy]
        patience, starting = min(1.0, self.silence / 4), self._crew.starting()
        asked = streams + (starting if waiting else [])
        if not asked:
            time.sleep(patience)  # a machine may join
        ready = ray.wait(asked, timeout=patience, fetch_local=False)[0] if asked else []
        self._crew.welcome([ref for ref in starting if is_ready(ref)])
        for slot in busy:
            event = self._next(slot) if slot.events in ready else self._checked(slot)
            if event is not None:
                yield slot, event

    def _next(self, slot: Slot) -> Event | None:
        from ray.exceptions import OutOfMemoryError, RayActorError, RayError

        assert slot.runs
        try:
            event = got(next(slot.events))
        except StopIteration:
            left = slot.runs
            if not left or signals.asked():  # all have told of their end, or were paused
                slot.runs = []
                return None
            return Lost(left[0].id, "its actor was told to end")
        except RayActorError as e:
            return Lost(slot.runs[0].id, f"its {'machine' if NODE in str(e) else 'actor'} died")
        except OutOfMemoryError:
            return Lost(slot.runs[0].id, "Ray ended its actor, for its machine ran out of memory")
        except RayError as e:
            return Failed(slot.runs.pop(0).id, "error", last_line(e))
        slot.heard = time.monotonic()
        if isinstance(event, Finished | Failed):
            slot.runs = [run for run in slot.runs if run.id != event.run]
        return event

    def _checked(self, slot: Slot) -> Lost | None:
        """Ask a silent actor for its last step; Lost where that is too long ago."""
        from ray.exceptions import RayError

        assert slot.runs
        now = time.monotonic()
        if slot.ping is not None and is_ready(slot.ping):
            with suppress(RayError):  # it is dead: the stream of events says so itself
                slot.heard = max(slot.heard, now - got(slot.ping))
            slot.ping = None
        if now - slot.heard > self.silence:
            return Lost(slot.runs[0].id, f"no step for {self.silence:g} s")
        if slot.ping is None and now - slot.heard > self.silence / 4:
            slot.ping = ask(slot.actor.silence)
        return None
