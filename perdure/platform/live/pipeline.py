"""A source and what learns from it: both in this process, or two Ray actors with so many arrivals between them."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ...streams.live.source import Arrival, LiveSource, SetAside
from ..cluster import connection
from ..runs import plugins
from ..runs.workspace import Site
from ..storage import signals
from .learner import Keeper
from .queries import feed
from .settings import Following

_NOTHING = object()
LOSSES = 3  # deaths of one actor in a row, without an arrival learned or read between them


class Pair(Protocol):
    """A source and a keeper."""

    def items(self) -> Iterator[Any]:
        """What has come, to be taken in this order."""
        ...

    def take(self, item: Any) -> None:
        """Learn it, after what was left under way. KeyboardInterrupt once it is safe to go on with later."""
        ...

    def go_on(self) -> None:
        """Learn what was left under way."""
        ...

    def close(self) -> None: ...


class Here:
    """Both in this process: nothing is read before it is to be learned."""

    def __init__(self, source: LiveSource, following: Following, site: Site, serves: bool, idle: float | None):
        self._source, self._idle, self._keeper = source, idle, Keeper(following, site, serves)

    def items(self):
        return feed(self._source, self._keeper.seen(), self._idle)

    def take(self, item):
        with signals.patiently():
            self._keeper.take(item)

    def go_on(self):
        with signals.patiently():
            self._keeper.go_on()

    def close(self):
        pass


class Reader:
    """The stream actor: it reads the source no further than it is asked to."""

    def __init__(self, modules: Sequence[str]):
        plugins.load(modules)  # a source may be of one

    def begin(self, source: LiveSource, seen: set[str], idle: float | None) -> None:
        self._items = feed(source, seen, idle)

    def next(self) -> tuple[bool, Arrival | SetAside | None]:
        """Whether there is another, and what it is; waits for it."""
        for item in self._items:
            return True, item
        return False, None


class Learning:
    """The learner actor."""

    def __init__(self, following: Following, site: Site, serves: bool):
        plugins.load(site.plugins)
        self._keeper = Keeper(following, site, serves)

    def seen(self) -> set[str]:
        return self._keeper.seen()

    def take(self, item: Arrival | SetAside | None) -> bool:
        """Whether it was learned to its end; with None, what was left under way."""
        self._keeper.go_on() if item is None else self._keeper.take(item)
        return not self._keeper.pausing

    def give_up(self, item: Arrival | SetAside | None, reason: str) -> bool:
        """Whether there was an arrival to set aside: what was left under way, or else the item."""
        return self._keeper.give_up(item, reason)

    def pause(self) -> None:
        signals.ask()


class Apart:
    """A stream actor and a learner actor; at most `ahead` arrivals are read and not yet taken.

    Samples go from one to the other, not through this process. Either may die: another takes its place, a reader that
    passes over what is known, a learner that goes on from the last bookmark. An arrival on which learners die again and
    again is set aside; not two in a row, for then it is not the arrivals that they die of.
    """

    def __init__(
        self,
        source: LiveSource,
        following: Following,
        site: Site,
        serves: bool,
        idle: float | None,
        ahead: int = 2,
        address: str | None = None,
    ):
        self._ours = connection.connect(address)
        self._source, self._following, self._site, self._serves = source, following, site, serves
        self._idle, self._ahead, self._losses = idle, ahead, Counter()
        self._learner, self._reader = self._learning(), None
        self._given_up: Any = _NOTHING  # on what the learners died, of all that came last

    def items(self):
        from ray.exceptions import RayActorError

        waiting: deque[tuple[Any, Any]] = deque()
        while True:
            if self._reader is None:
                self._reader = self._reading()
                waiting.clear()
            while len(waiting) <= self._ahead:  # the first of them is what is taken next
                waiting.append(self._reader.next.options(num_returns=2).remote())
            more, item = waiting[0]
            try:
                if not _got(more):
                    return
            except RayActorError as e:
                if self._once_too_often("stream"):
                    raise self._dead("stream", e) from e
                self._reader = None
                continue
            waiting.popleft()
            yield item

    def take(self, item):
        from ray.exceptions import OutOfMemoryError, RayActorError

        while True:
            under_way = self._learner.take.remote(item)
            try:
                done = _got(under_way)
            except KeyboardInterrupt:
                self._learner.pause.options(concurrency_group="pulse").remote()
                _got(under_way)
                raise
            except (RayActorError, OutOfMemoryError) as e:
                self._learner = self._learning()
                self._learner_lost(item, e)
                continue
            if not done:
                raise KeyboardInterrupt
            self._losses.clear()
            if item is not self._given_up:
                self._given_up = _NOTHING
            return

    def go_on(self):
        self.take(None)

    def close(self):
        import ray

        for actor in (self._learner, self._reader):
            if actor is not None:
                ray.kill(actor)
        if self._ours:
            connection.disconnect()

    def _learner_lost(self, item: Any, error: Exception) -> None:
        """Count it, and set the arrival aside that it is one too many for. Raises RuntimeError where there is none."""
        if not self._once_too_often("learner"):
            return
        reason = f"its learner died {self._losses['learner']} times in a row ({type(error).__name__})"
        if self._given_up is not _NOTHING or not _got(self._learner.give_up.remote(item, reason)):
            raise self._dead("learner", error)
        self._given_up = item
        self._losses.clear()

    def _once_too_often(self, who: str) -> bool:
        self._losses[who] += 1
        return self._losses[who] > LOSSES

    def _dead(self, who: str, error: Exception) -> RuntimeError:
        return RuntimeError(f"the {who} actor died {self._losses[who]} times in a row ({type(error).__name__})")

    def _learning(self) -> Any:
        import ray

        remote: Any = ray.remote
        gpus = 1.0 if self._following.device.startswith("cuda") else 0.0
        needs = {"num_cpus": self._following.threads, "num_gpus": gpus, "max_restarts": 0}
        made = remote(concurrency_groups={"pulse": 1}, **needs)(Learning)
        return made.remote(self._following, self._site, self._serves)

    def _reading(self) -> Any:
        import ray

        remote: Any = ray.remote
        reader = remote(num_cpus=0, max_restarts=0)(Reader).remote(self._site.plugins)
        reader.begin.remote(self._source, self._learner.seen.remote(), self._idle)
        return reader


def _got(ref: Any) -> Any:
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(ref)
    except RayTaskError as e:  # what went wrong within an actor, as it would be raised here
        raise e.cause if isinstance(e.cause, Exception) else e from None
