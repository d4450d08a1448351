"""The training loop for several replicas of one run at once: each ends with the bits that it would have alone, or on a
GPU, whose kernels round by shape, within rounding of them.

What costs most, the forward and backward pass and the optimizer, is done for all in one go on stacked weights. Hooks
are called replica by replica, each with its own learner, state and random streams, where a strategy has them at all.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from math import nan
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import asks_to_leave
from ...streams.experience import Batch, Stream
from ..base import State, Strategy, stages
from ..learner import Learner
from ..numerics.rng import Rng
from ..training.hook_checks import looked
from ..training.loop import LOOKS, after, batches, begun, between_looks, never, reached, refuse_divergence, train
from ..training.optimizers import SGD, Adam, AdamW
from ..training.plan import Bookmark, Milestone, Plan
from ..training.requirements import Caution, caution
from .forward import Abreast, aligned, watched
from .noise import Noise
from .weights import Stack


class Alone(Exception):
    """Replica `which` cannot go on with the others; what went wrong is the cause."""

    def __init__(self, which: int):
        super().__init__(f"replica {which} cannot go on with the others")
        self.which = which


@dataclass(eq=False)
class _Replica:
    learner: Learner
    strategy: Strategy
    root: Rng
    stream: Stream
    seen: Strategy  # its hooks looked at
    hooks: Strategy  # as they are called now
    state: State = None
    baseline: tuple[float, ...] = ()


def refuse_together(strategy: Strategy, optimizer: Any, plan: Plan, workers: int = 1) -> str:
    """Why replicas of such a run are learned one after another; empty where they can be learned together."""
    for stage in stages(strategy):
        if stage.apart:
            return stage.apart
    if not isinstance(optimizer, SGD | Adam | AdamW):
        return f"{type(optimizer).__name__} may look at several weights at once; sgd, adam and adamw do not"
    if workers > 1 or plan.accumulate > 1 or plan.precision != "float32" or plan.compiled:
        return "they are learned by one worker, batches in one part, in float32, and not compiled"
    return ""


def alike(one: Any, other: Any) -> bool:
    """Whether two strategies or optimizers are the same but for numbers."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if is_dataclass(one) and type(one) is type(other):
        return all(alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return one == other


def learn_together(
    stream: Stream,
    learners: Sequence[Learner],
    strategies: Sequence[Strategy],
    plan: Plan,
    checkpoints: Sequence[dict[str, Any] | None] | None = None,
    due: Callable[[], bool] = never,
) -> Iterator[tuple[int, Milestone | Bookmark]]:
    """What `learn` yields for each of several learners, with the place of the learner among them.

    The learners differ in their seeds, their weights, and in numbers of optimizer and strategy. Checkpoints are all of
    one place in the stream. `seconds` of a milestone are a replica's equal share.

    Warns (Caution) as `learn` does. Raises ValueError for learners that cannot be learned together, and Alone where one
    fails while it is learned: nothing more comes of the others then, and each can go on from its checkpoint.
    """
    given = list(checkpoints or [None] * len(learners))
    _refuse(learners, strategies, plan, given)
    doubt = caution(strategies[0], stream.protocol)
    if doubt:
        warnings.warn(f"this strategy {doubt}", Caution, stacklevel=2)
    return _blamed(_Loop(_replicas(stream, learners, strategies), plan, due), given)


def _blamed(loop: "_Loop", given: Sequence[dict[str, Any] | None]):
    try:
        yield from loop.learned(given)
    except (Exception, SystemExit) as e:
        if loop.turn is None or (isinstance(e, SystemExit) and not asks_to_leave(e)):
            raise
        raise Alone(loop.turn) from e


def _refuse(learners, strategies, plan, checkpoints) -> None:
    if not len(learners) == len(strategies) == len(checkpoints) or not learners:
        raise ValueError(f"expected as many learners as strategies, got {len(learners)} and {len(strategies)}")
    for learner, strategy in zip(learners, strategies, strict=True):
        why = refuse_together(strategy, learner.optimizer, plan, learner.workers)
        if why:
            raise ValueError(f"cannot learn these together: {why}")
        if not alike(strategy, strategies[0]) or not alike(learner.optimizer, learners[0].optimizer):
            raise ValueError("expected replicas whose strategies and optimizers differ in numbers alone")
    if len({tuple(learner.params) for learner in learners}) > 1:
        raise ValueError("expected replicas that freeze the same weights")
    if len({(c["experience"], c.get("step")) if c else None for c in checkpoints}) > 1:
        raise ValueError("expected checkpoints of one place in the stream")


def _replicas(stream, learners, strategies) -> list[_Replica]:
    made: list[_Replica] = []
    for learner, strategy in zip(learners, strategies, strict=True):
        known = next((r.stream for r in made if r.strategy == strategy), None)
        seen = looked(strategy)
        own = seen.curriculum(stream) if known is None else known
        made.append(_Replica(learner, strategy, learner.rng, own, seen, strategy))
    return made


def gain(stream: Stream, make: Callable[[int], tuple[Learner, Strategy]], count: int, plan: Plan) -> float:
    """How many times as fast `count` replicas learn together as one after another, by some steps of each.

    make: a fresh learner and strategy of each replica, which are spent.
    """
    paces = []
    for several in (1, count):
        given = [make(n) for n in range(several)]
        learners, strategies, states = [one for one, _ in given], [one for _, one in given], []
        for learner, strategy in given:
            learner.protocol, learner.heads, root = stream.protocol, stream.heads(0), learner.rng
            learner.rng = root.fold("init")
            states.append(strategy.init(learner))
            learner.rng = root
        paces.append(_pace(stream, learners, strategies, states, plan) / several)
    return paces[0] / paces[1]


def _pace(
    stream: Stream, learners: Sequence[Learner], strategies: Sequence[Strategy], states: Sequence[State], plan: Plan
) -> float:
    """Seconds of a step on the first experience, the shortest of some."""
    ticks: list[float] = []

    def tick() -> bool:
        ticks.append(time.perf_counter())
        return len(ticks) > 3 and (len(ticks) > 40 or ticks[-1] - ticks[2] > 0.1)

    if len(learners) == 1:
        (learner,), (strategy,) = learners, strategies
        own, optimizer = strategy.curriculum(stream), learner.optimizer(learner.params.values())
        steps = train(own[0], learner, optimizer, strategy, states[0], plan, learner.rng, None, (), tick)
    else:
        loop = _Loop(_replicas(stream, learners, strategies), plan, tick)
        for replica, state in zip(loop.replicas, states, strict=True):
            replica.state = state
        loop.stack.begin()
        steps = loop.trained(0, [None] * len(learners))
    next(steps, None)
    return min(b - a for a, b in pairwise(ticks)) if len(ticks) > 1 else nan


class _Loop:
    def __init__(self, replicas: Sequence[_Replica], plan: Plan, due: Callable[[], bool]):
        self.replicas, self.plan, self.due = list(replicas), plan, due
        self.stack = Stack([r.learner for r in replicas])
        self.turn: int | None = None  # the replica that something is done for by itself
        self.noise = Noise(len(replicas), replicas[0].learner.device)
        self.outputs = Abreast([r.learner.model for r in replicas], self.stack, self.noise)
        self.replays, self.listens = replicas[0].strategy.replays, False
        self.augments, self.penalises, self.steers = (
            _has(replicas[0].strategy, hook) for hook in ("augment", "penalty", "steer")
        )

    def learned(self, checkpoints: Sequence[Any]):
        first = self._begun(checkpoints)
        stream, keeps = self.replicas[0].stream, self.replicas[0].learner.keeps_optimizer
        started, going, told = time.perf_counter(), False, 0
        for i in range(first, len(stream)):
            for r in self.replicas:
                r.learner.heads = r.stream.heads(i)
            if not going:  # a new one after every mark, unless it is kept
                self.stack.begin()
            going = True
            if checkpoints[0] is not None and "optimizer" in checkpoints[0]:
                self.stack.load_state_dicts([c["optimizer"] for c in checkpoints])
            losses, marked = yield from self.trained(i, checkpoints, i - first < LOOKS)
            checkpoints = cast(Sequence[Any], [None] * len(self.replicas))
            self._look(i - first < LOOKS)
            self._consolidate(i)
            if i not in stream.marks:
                if marked:
                    yield from self._bookmarks(i + 1, 0, lambda r, i=i: after(r.learner, r.state, r.baseline, i))
                continue
            told += 1
            self._look(told <= LOOKS)
            shared = (time.perf_counter() - started) / len(self.replicas)
            for n in range(len(self.replicas)):
                yield n, self._reached(n, i, losses[n], shared, keeps)
            started, going = time.perf_counter(), keeps

    def _begun(self, checkpoints) -> int:
        first = 0
        for n, r in self._each():
            r.state, r.baseline, first = begun(r.seen, r.stream, r.learner, self.plan, checkpoints[n])
        return first

    def _consolidate(self, i: int) -> None:
        for _, r in self._each():
            r.learner.rng = r.root.fold(i, "consolidate")
            r.state = r.hooks.consolidate(r.learner, r.stream[i], r.state)

    def _reached(self, n: int, i: int, losses: Tensor, shared: float, keeps: bool) -> Milestone:
        started = time.perf_counter()
        self.turn, r = n, self.replicas[n]
        last = losses[-len(batches(r.stream[i], self.plan, r.root)) :].clone()
        stone = reached(r.hooks, r.stream, r.learner, r.state, r.baseline, i, last)
        self.turn = None
        if keeps:
            stone.checkpoint["optimizer"] = self.stack.state_dict(n)
        return replace(stone, seconds=shared + time.perf_counter() - started)

    def _bookmarks(self, i: int, step: int, told: Callable[[_Replica], dict[str, Any]]):
        for n, r in enumerate(self.replicas):
            yield n, Bookmark(i, step, told(r) | {"optimizer": self.stack.state_dict(n)})

    def _look(self, looks: bool) -> None:
        for r in self.replicas:
            r.hooks = r.seen if looks else r.strategy

    def trained(self, i: int, checkpoints: Sequence[Any], looks: bool = False):
        """Learn experience i, from the bookmarks `checkpoints` when they are some.

        looks: whether hooks are looked at in the first step.

        Returns the losses of every step (S, steps), and whether checkpoints are asked for at its end.
        """
        one = self.replicas[0]
        self.listens = any(map(watched, one.learner.model.modules()))
        per_epoch = len(batches(one.stream[i], self.plan, one.root))
        last = self.plan.steps or self.plan.epochs * per_epoch
        losses, first = torch.zeros(len(self.replicas), last, device=one.learner.device), 0
        if checkpoints[0] is not None and "step" in checkpoints[0]:
            losses, first = torch.stack([c["losses"] for c in checkpoints]).to(losses.device), checkpoints[0]["step"]
        for r in self.replicas:
            r.learner.train()
        every = between_looks(one.learner, per_epoch * self.replays)
        order: list[Tensor] = []
        asked = marked = False
        for step in range(first, last):
            again = step % self.replays
            epoch, k = divmod(step // self.replays, per_epoch)
            if not again and (k == 0 or not order):
                order = self._order(i, epoch)
            if step - first < 2:
                self._look(looks and step == first)
            self._place(i, step, again, (step + 1) / last)
            losses[:, step] = self._step(self._met(i, order[k]))
            asked = self.due() or asked
            marked = asked and again == self.replays - 1  # between replays there is no way to go on from
            asked = asked and not marked
            if marked or step % every == every - 1 or step == last - 1:
                for n, r in self._each():
                    refuse_divergence(losses[n, : step + 1], r.learner, i, per_epoch)
            if marked and step < last - 1:
                yield from self._bookmarks(i, step + 1, lambda r, i=i, step=step: self._within(r, i, step, losses))
        return losses, marked or asked

    def _within(self, r: _Replica, i: int, step: int, losses: Tensor) -> dict[str, Any]:
        mine = losses[self.replicas.index(r)].clone()
        at = {"model": r.learner.snapshot(), "strategy": r.state, "baseline": r.baseline, "experience": i}
        return at | {"step": step + 1, "losses": mine}

    def _order(self, i: int, epoch: int) -> list[Tensor]:
        """The indices (S, B) of an epoch's batches."""
        each = [batches(r.stream[i], self.plan, r.root, epoch) for r in self.replicas]
        return [torch.stack(parts) for parts in zip(*each, strict=True)]

    def _place(self, i: int, step: int, again: int, progress: float) -> None:
        """Let every learner and its random streams know where they are."""
        self.noise.seed([(r.root, i, step) for r in self.replicas])
        if not (self.augments or self.penalises or self.steers or self.listens):
            return
        for r in self.replicas:
            if not again:
                r.learner.scratch.clear()
            r.learner.rng, r.learner.progress = r.root.fold(i, "step", step - again), progress

    def _met(self, i: int, index: Tensor) -> Batch:
        """The batches (S, B, ...) at index (S, B) of the experience."""
        one = self.replicas[0].stream[i].train
        if all(r.stream is self.replicas[0].stream for r in self.replicas):
            return Batch(*(part.view(*index.shape, *part.shape[1:]) for part in one.batch(index.flatten())))
        parts = [r.stream[i].train.batch(rows) for r, rows in zip(self.replicas, index, strict=True)]
        return Batch(*map(torch.stack, zip(*parts, strict=True)))

    def _step(self, batch: Batch) -> Tensor:
        """The losses (S,) of one step."""
        apart = _apart(batch) if self.augments or self.penalises else []
        if self.augments:
            for n, r in self._each():
                with self.noise.of(n):
                    apart[n] = r.hooks.augment(r.learner, apart[n], r.state)
            batch = _joined(apart)
        if self.listens:
            for r, task in zip(self.replicas, batch.task, strict=True):
                r.learner.task = task
        outputs = self.outputs(batch.x)
        losses, roots, slopes = self._losses(outputs, batch), [], []
        if self.penalises:
            extra, slopes = self._penalties(outputs.detach(), apart)
            losses, roots = losses + extra, [outputs]
        torch.autograd.backward([losses.sum(), *roots], [None, *slopes])
        for weights in self.stack.weights.values():
            weights.gather()
        if self.steers:
            self._steer()
        self.stack.step()
        return losses.detach()

    def _losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Of outputs (S, B, C): what `Learner.loss` is of each, (S,)."""
        flat = self.replicas[0].learner.masked(outputs.flatten(0, 1), batch.task.flatten())
        each = F.cross_entropy(flat, batch.y.flatten(), reduction="none").view_as(batch.weight)
        return (batch.weight * each).sum(1) / batch.weight.sum(1)

    def _penalties(self, outputs: Tensor, apart: Sequence[Batch]) -> tuple[Tensor, list[Tensor]]:
        """(S,), and their slopes with respect to the outputs (S, B, C); those of the weights are with the replicas."""
        told, slopes = outputs.new_zeros(len(outputs)), []
        for n, r in self._each():
            mine, batch = outputs[n].clone().requires_grad_(), apart[n]
            with self.noise.of(n):
                more = r.hooks.penalty(r.learner, batch, mine, r.state)
            if isinstance(more, Tensor) and more.requires_grad:
                more.backward(retain_graph=batch.x.requires_grad)  # which the loss goes back through as well
            told[n] = more.detach() if isinstance(more, Tensor) else more
            slopes.append(torch.zeros_like(mine) if mine.grad is None else mine.grad)
        return told, [torch.stack(slopes)]

    def _steer(self) -> None:
        for n, r in self._each():
            with self.noise.of(n):
                grads = self.stack.grads(n)
                for name, g in r.hooks.steer(r.learner, grads, r.state).items():
                    if g is not grads.get(name):
                        self.stack.weights[name].grads[n].copy_(g)

    def _each(self) -> Iterator[tuple[int, _Replica]]:
        """The replicas in turn; whoever's turn it is has to answer for what goes wrong."""
        for n, replica in enumerate(self.replicas):
            self.turn = n
            yield n, replica
        self.turn = None


def _has(strategy: Strategy, hook: str) -> bool:
    return any(getattr(type(stage), hook) is not getattr(Strategy, hook) for stage in stages(strategy))


def _apart(batch: Batch) -> list[Batch]:
    return [Batch(*map(aligned, parts)) for parts in zip(*batch, strict=True)]


def _joined(apart: Sequence[Batch]) -> Batch:
    sizes = {batch.x.shape for batch in apart}
    if len(sizes) > 1:
        raise ValueError(f"expected batches of one size from all replicas, got {sorted(sizes)}; learn them alone")
    return Batch(*map(torch.stack, zip(*apart, strict=True)))
