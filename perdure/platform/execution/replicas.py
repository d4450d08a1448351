"""Runs that differ only in seed or other numbers, made at once: each stays a run of its own to everybody else.

Its attempt is claimed, journalled, checkpointed, fenced and resumed as that of any run. Only the milestones come out
of one loop for all, in turns. Where one of them fails, the others go on from their checkpoints, together again.
"""

import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from math import ceil
from typing import cast

import torch

from ...errors import asks_to_leave, why
from ...strategies import names
from ...strategies.replicas.forward import EXACT
from ...strategies.replicas.loop import Alone, alike, gain, learn_together, refuse_together
from ...strategies.training.plan import Bookmark, Milestone
from ...strategies.training.requirements import Caution
from ...streams.datasets.dataset import Dataset
from ..runs.any_run import AnyRun
from ..runs.events import Event, Failed, Grouped
from ..runs.journal import Journal
from ..runs.record import finished, known_divergence, resumable
from ..runs.run import Run, build
from ..runs.workspace import Site
from ..storage import signals
from ..storage.checkpoints import Store
from ..workloads.continual import Continual
from .execute import execute

WORTH = 1.1  # times as fast, below which it is left
SHORT = 200  # steps of a run, in all, that a measurement would not pay off in
ROOM = 2**30  # bytes of weights, gradients and moments that runs may hold at once without being told to


class Parted(BaseException):
    """Runs are made at once no longer: no failure of the run that meets it."""

    def __init__(self, which: int | None):
        super().__init__()
        self.which = which  # the one to blame, if it is known


def expect_together(runs: Sequence[AnyRun]) -> None:
    """Raises ValueError for a run that can only be made by itself."""
    for run in runs:
        why = _refused(run)
        if why:
            raise ValueError(f"{run.method} cannot be learned together: {why}; leave --together out")


def pieces(runs: Sequence[AnyRun], site: Site, slots: int = 1) -> list[list[AnyRun]]:
    """The runs as they are handed out, in their order: those that may be learned together in one piece, but in as many
    that there is something to do for every slot.
    """
    groups: list[list[AnyRun]] = []
    for run in runs:
        unasked = site.together is None and not _to_the_bit(run)
        single = site.together is False or unasked or site.storage or site.profile or _refused(run)
        fit = None if single else next((g for g in groups if _fits(run, g[0])), None)
        if fit is None:
            groups.append([run])
        else:
            fit.append(run)
    if not groups:
        return []
    parts = ceil(slots / len(groups))
    return [piece for group in groups for piece in _cut(group, parts)]


def choose(runs: Sequence[AnyRun], site: Site, dataset: Dataset | None) -> Grouped | None:
    """Whether runs of one piece are learned together; None where there is nothing to choose."""
    left = [run for run in runs if isinstance(run, Run) and not _is_known(run, site)]
    if len(left) < 2 or dataset is None:
        return None
    if site.together:
        return _grouped(runs, True, "together, as asked")
    torch.set_num_threads(left[0].threads)
    try:
        stream, learner, _ = build(left[0], dataset)
        held = 16 * len(left) * sum(p.numel() for p in learner.params.values())
        if held > ROOM:
            return _grouped(runs, False, f"one after another: at once they would hold {held / 2**30:.1f} GiB")
        plan = left[0].plan
        if (plan.steps or plan.epochs * ceil(len(stream[0]) / plan.batch_size)) * len(stream) < SHORT:
            return _grouped(runs, False, f"one after another: less than {SHORT} steps each")
        faster = gain(stream, lambda n: build(left[n], dataset)[1:], len(left), plan)
    except Exception as e:  # the runs themselves meet it and say so
        return _grouped(runs, False, f"one after another: {why(e)}")
    except SystemExit as e:
        if not asks_to_leave(e):
            raise
        return _grouped(runs, False, f"one after another: {why(e)}")
    told = f"{faster:.1f} x as fast as one after another"
    return _grouped(runs, faster >= WORTH, f"together, {told}" if faster >= WORTH else f"one after another: not {told}")


def _is_known(run: AnyRun, site: Site) -> bool:
    return finished(run, site) or bool(known_divergence(site.folder(run)))


def execute_together(
    runs: Sequence[AnyRun], site: Site, dataset: Dataset | None, alive: Callable[[], None] = lambda: None
) -> Iterator[Event]:
    """The events of runs that are made at once; those that are not at the same place go on in groups."""
    places = defaultdict(list)
    for run in runs:
        folder = site.folder(run)
        if _is_known(run, site):
            yield from execute(run, site, dataset, alive)
            continue
        known = None if site.storage else resumable(Store(folder), Journal(folder))[0]
        places[known and (known["experience"], known.get("step"), "optimizer" in known)].append((run, known))
    for group in places.values():
        if len(group) == 1 or dataset is None:
            for run, _ in group:
                yield from execute(run, site, dataset, alive)
        else:
            yield from _at_once(group, site, dataset, alive)


def _at_once(group, site: Site, dataset: Dataset, alive: Callable[[], None]) -> Iterator[Event]:
    runs = [run for run, _ in group]
    torch.set_num_threads(runs[0].threads)
    try:
        shared = _Shared(runs, site, dataset, alive, [known for _, known in group])
    except Exception:  # each of them meets what is wrong, and says so
        for run in runs:
            yield from execute(run, site, dataset, alive)
        return
    going = {n: execute(run, site, dataset, alive, shared.part(n)) for n, run in enumerate(runs)}
    try:
        while going:
            for n, attempt in list(going.items()):
                event = next(attempt, None)
                if event is None:
                    del going[n]
                else:
                    shared.leave(n, event)
                    yield event
            if signals.asked() and going:  # each has come to a checkpoint in this turn
                raise signals.Ended
    except Parted as e:
        which = e.which
    else:
        return
    finally:
        for attempt in going.values():
            cast(Generator, attempt).close()
    rest = [runs[n] for n in going if n != which and which is not None]
    for n in going:
        if n == which or which is None:
            yield from execute(runs[n], site, dataset, alive)
    if rest:
        yield from execute_together(rest, site, dataset, alive)


class _Shared:
    """One loop for several runs, whose attempts ask it in turns."""

    def __init__(self, runs, site: Site, dataset: Dataset, alive: Callable[[], None], checkpoints):
        self.works = [Continual(run, dataset, alive, site) for run in runs]
        self.dues: list[Callable[[], bool]] = []
        self.waiting: list[deque[Milestone | Bookmark]] = [deque() for _ in runs]
        self.left: set[int] = set()
        stream = self.works[0].stream
        for work in self.works:
            work.stream = stream
        learners, strategies = [w.learner for w in self.works], [w.strategy for w in self.works]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caution)  # a command says it once, for all of its runs
            self.stones = learn_together(stream, learners, strategies, runs[0].plan, checkpoints, self._due)

    def part(self, n: int) -> "_Part":
        return _Part(self, n)

    def leave(self, n: int, event: Event) -> None:
        """A run whose attempt failed by itself, as where the disk is full, takes no more."""
        if isinstance(event, Failed):
            self.left.add(n)

    def of(self, n: int) -> Iterator[Milestone | Bookmark]:
        while True:
            while not self.waiting[n]:
                try:
                    which, stone = next(self.stones)
                except StopIteration:
                    return
                except Alone as e:
                    raise Parted(e.which) from e
                except Exception as e:
                    raise Parted(None) from e
                if which not in self.left:
                    self.waiting[which].append(stone)
            yield self.waiting[n].popleft()

    def _due(self) -> bool:
        """One clock for all, so that all are kept at one place."""
        asked = [due() for due in self.dues]  # each looks after its run
        return asked[0]


class _Part:
    """The work of one of them."""

    def __init__(self, shared: _Shared, n: int):
        self._shared, self._n, self._work = shared, n, shared.works[n]
        self.length = self._work.length

    def steps(self, checkpoint, due):
        self._shared.dues.append(due)
        return self._work.told(self._shared.of(self._n))


def _refused(run: AnyRun) -> str:
    if not isinstance(run, Run):
        return "tasks of a meta-batch are learned together already, seeds are not"
    strategy, optimizer = names.strategy(run.strategy), names.optimizer(run.optimizer)
    return refuse_together(strategy, optimizer, run.plan, run.workers)


def _to_the_bit(run: AnyRun) -> bool:
    """Whether a run comes out the same, together or alone: where it does not, it is for the user to choose."""
    return isinstance(run, Run) and torch.device(run.device).type == EXACT


def _fits(run: AnyRun, other: AnyRun) -> bool:
    """Whether two runs differ in seed, and numbers of strategy and optimizer, alone."""
    if not isinstance(run, Run) or not isinstance(other, Run):
        return False
    if replace(run, seed=0, strategy="naive", optimizer="adam") != replace(
        other, seed=0, strategy="naive", optimizer="adam"
    ):
        return False
    strategies, optimizers = ([of(getattr(r, k)) for r in (run, other)] for k, of in _READ)
    return alike(*strategies) and alike(*optimizers) and strategies[0].replays == strategies[1].replays


_READ = (("strategy", names.strategy), ("optimizer", names.optimizer))


def _cut(group: list[AnyRun], parts: int) -> list[list[AnyRun]]:
    size = ceil(len(group) / min(parts, len(group)))
    return [group[k : k + size] for k in range(0, len(group), size)]


def _grouped(runs: Sequence[AnyRun], together: bool, why: str) -> Grouped:
    methods = list(dict.fromkeys(run.method for run in runs))
    which = methods[0] if len(methods) == 1 else f"{methods[0]} and {len(methods) - 1} like it"
    return Grouped(runs[0].id, tuple(run.id for run in runs), together, f"{which}, {len(runs)} runs: {why}")
