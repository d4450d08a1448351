"""The one training loop: it learns a stream and yields a milestone after every experience."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, optim

from ...streams.experience import Batch, Experience, Stream
from ..base import OwnLoop, State, Strategy
from ..distributed import collectives
from ..distributed.synced_layers import prepare
from ..learner import Learner
from ..numerics.divergence import Diverged
from ..numerics.pytree import copied, state_bytes
from ..numerics.rng import Rng
from .compile import compiled
from .cuda_graphs import steps_of
from .hook_checks import at_first, looked
from .plan import Bookmark, Milestone, Plan
from .requirements import Caution, caution, expect_weights

LOOKS = 2  # experiences, and milestones, in which hooks are looked at: without a past, and with one
CHECK = 100  # steps between looks at the losses; where a look waits for the device, epochs are


def never() -> bool:
    return False


def learn(
    stream: Stream,
    learner: Learner,
    strategy: Strategy,
    plan: Plan,
    checkpoint: dict[str, Any] | None = None,
    due: Callable[[], bool] = never,
) -> Iterator[Milestone | Bookmark]:
    """Learn `stream` in order. Whoever takes the milestones decides what to log, to keep and when to stop.

    due: asked after every step; where it says yes, a Bookmark is yielded. It changes no number.
    Every random number comes from the learner's seed, the position and the consumer's name. Hence a
    checkpoint holds no random state, and a run resumed from it ends with the bits of an uninterrupted one.

    Warns (Caution) where the strategy cannot work on such a stream.

    Raises Diverged, naming experience, epoch and step, where the loss stops being finite.
    """
    doubt = caution(strategy, stream.protocol)
    if doubt:
        warnings.warn(f"this strategy {doubt}", Caution, stacklevel=2)
    make = strategy.learn if isinstance(strategy, OwnLoop) else partial(_learn, strategy)
    return make(stream, learner, plan, checkpoint, due)


def _learn(strategy, stream, learner, plan, checkpoint, due):
    seen, told = looked(strategy), 0
    root, stream = learner.rng, seen.curriculum(stream)
    learner.precision, learner.parts = plan.precision, plan.accumulate
    if collectives.size() > 1:
        prepare(learner.model)
    state, baseline, first = begun(seen, stream, learner, plan, checkpoint)
    started, optimizer = time.perf_counter(), None
    for i in range(first, len(stream)):
        learner.phase("data")
        experience, learner.heads = stream[i], stream.heads(i)
        if optimizer is None:  # a new one after every mark, unless it is kept
            optimizer = learner.optimizer(learner.params.values())
        if checkpoint is not None and "optimizer" in checkpoint:
            optimizer.load_state_dict(checkpoint["optimizer"])
        hooks = seen if i - first < LOOKS else strategy
        losses, marked = yield from train(
            experience, learner, optimizer, strategy, state, plan, root, checkpoint, baseline, due, hooks
        )
        checkpoint = None
        learner.phase("consolidate")
        learner.rng = root.fold(i, "consolidate")
        state = hooks.consolidate(learner, experience, state)
        if i not in stream.marks:
            if marked:
                at = after(learner, state, baseline, i)
                yield Bookmark(i + 1, 0, at | {"optimizer": copied(optimizer.state_dict())})
            continue
        learner.phase("evaluate")
        last, told = losses[-len(batches(experience, plan, root)) :], told + 1
        stone = reached(seen if told <= LOOKS else strategy, stream, learner, state, baseline, i, last)
        if learner.keeps_optimizer:
            stone.checkpoint["optimizer"] = copied(optimizer.state_dict())
        else:
            optimizer = None
        yield replace(stone, seconds=time.perf_counter() - started)
        started = time.perf_counter()  # what has been done with the milestone is no time of the next


def begun(
    strategy: Strategy, stream: Stream, learner: Learner, plan: Plan, checkpoint: dict[str, Any] | None
) -> tuple[State, tuple[float, ...], int]:
    """The strategy's state, the accuracy before anything was learned, and the experience to begin or go on with."""
    expect_weights(learner)
    learner.protocol, learner.heads, learner.rng = stream.protocol, stream.heads(0), learner.rng.fold("init")
    state = strategy.init(learner)
    learner.compiled = compiled(learner) if plan.compiled else None
    if checkpoint is None:
        learner.phase("evaluate")
        return state, evaluate(learner, before_learning(stream), strategy, state), 0
    learner.model.load_state_dict(checkpoint["model"])
    return checkpoint["strategy"], tuple(checkpoint["baseline"]), checkpoint["experience"]


def before_learning(stream: Stream) -> list[Experience]:
    """What is tested on before anything is learned, to know what learning others did for an experience: none where not
    all are tested on each time."""
    return [stream[j] for j in stream.tested(stream.marks[0])] if stream.evaluation.kind == "all" else []


def reached(
    strategy: Strategy,
    stream: Stream,
    learner: Learner,
    state: State,
    baseline: tuple[float, ...],
    i: int,
    losses: Tensor,
) -> Milestone:
    """The milestone once experience i has been learned, with the losses of its last epoch; no time has been spent."""
    accuracy = stream.spread(i, evaluate(learner, [stream[j] for j in stream.tested(i)], strategy, state))
    extras, kept = strategy.describe(learner, state), after(learner, state, baseline, i)
    aims = [replace(stream[i], test=aim) for known in stream.aims[: i + 1] for aim in known]
    if aims:  # of a poisoner, who has been at work on the experiences so far
        hits = evaluate(learner, aims, strategy, state)
        extras["poison_success"] = sum(hits) / len(hits)
    carried = state_bytes(strategy.carried(state))
    mark = stream.marks.index(i)
    return Milestone(mark, losses.mean().item(), accuracy, baseline, carried, 0.0, kept, extras)


def restored(strategy: Strategy, stream: Stream, learner: Learner, checkpoint: dict[str, Any]) -> State:
    """The strategy's state at a checkpoint, with the learner as it was there: its weights, gates and open heads."""
    learner.protocol, learner.heads, learner.rng = stream.protocol, stream.heads(0), learner.rng.fold("init")
    strategy.init(learner)
    learner.model.load_state_dict(checkpoint["model"])
    learner.heads = strategy.curriculum(stream).heads(max(0, checkpoint["experience"] - 1))
    return checkpoint["strategy"]


def after(learner: Learner, state: State, baseline: tuple[float, ...], i: int) -> dict[str, Any]:
    """The checkpoint once experience i has been learned."""
    return {"model": learner.snapshot(), "strategy": state, "baseline": baseline, "experience": i + 1}


def train(experience, learner, optimizer, strategy, state, plan, root, checkpoint, baseline, due, hooks=None):
    """Learn one experience, from the bookmark `checkpoint` when it is one.

    hooks: the strategy as it is for the first step, looked at.

    Returns the loss of every step (S,), and whether a checkpoint is asked for at its end.
    """
    i, learner.rng = experience.index, root.fold(experience.index)
    per_epoch = len(batches(experience, plan, root))
    last = plan.steps or plan.epochs * per_epoch
    losses, first = torch.zeros(last, device=learner.device), 0
    if checkpoint is not None and "step" in checkpoint:
        losses, first = checkpoint["losses"].to(learner.device, copy=True), checkpoint["step"]
    learner.train()
    met = experience.train.batches(_order(experience, plan, root, strategy.replays, per_epoch, first, last))
    hooks = hooks or strategy
    step_of = at_first(*(partial(_step, learner, optimizer, each, state) for each in (hooks, strategy)))
    augment = at_first(hooks.augment, strategy.augment)
    take = steps_of(step_of, augment, learner, strategy, state, last - first)
    every = between_looks(learner, per_epoch * strategy.replays)
    asked = marked = False
    for step in range(first, last):
        again = step % strategy.replays
        if not again:
            learner.scratch.clear()
        root.fold(i, "step", step).seed_torch()
        learner.rng, learner.progress = root.fold(i, "step", step - again), (step + 1) / last
        losses[step] = take(next(met))
        learner.phase("data")
        asked = due() or asked
        marked = asked and again == strategy.replays - 1  # between replays there is no way to go on from
        asked = asked and not marked
        if marked or step % every == every - 1 or step == last - 1:
            refuse_divergence(losses[: step + 1], learner, i, per_epoch)
        if marked and step < last - 1:
            at = {"model": learner.snapshot(), "strategy": state, "baseline": baseline, "experience": i}
            within = {"step": step + 1, "optimizer": copied(optimizer.state_dict()), "losses": losses.clone()}
            yield Bookmark(i, step + 1, at | within)
    return losses, marked or asked


def between_looks(learner: Learner, epoch: int) -> int:
    """Steps after which losses are looked at: on a GPU those of an epoch, for the loop waits for it then."""
    return CHECK if learner.device.type == "cpu" else epoch


def _step(learner: Learner, optimizer: optim.Optimizer, strategy: Strategy, state: State, batch: Batch) -> Tensor:
    """From a batch as the strategy gives it to moved weights: the part that may be captured."""
    loss = _passed(learner, strategy, batch, state)
    learner.phase("steer")
    grads = collectives.mean({name: p.grad for name, p in learner.params.items() if p.grad is not None})
    for name, grad in strategy.steer(learner, grads, state).items():
        learner.params[name].grad = _alike(grad, learner.params[name])
    learner.phase("optimizer")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def _alike(grad: Tensor, p: Tensor) -> Tensor:
    """A gradient that lies in memory as its parameter does: a fused optimizer walks both without looking."""
    return grad if grad.stride() == p.stride() else torch.empty_like(p).copy_(grad)


def _passed(learner: Learner, strategy: Strategy, batch: Batch, state: State) -> Tensor:
    """The loss of a batch, whose gradients are added to the parameters', in as many parts as the learner takes."""
    if learner.parts == 1:
        return _descended(learner, strategy, batch, state, 1.0)
    pieces = (v.tensor_split(min(learner.parts, len(batch.y))) for v in batch)
    parts, whole = list(map(Batch._make, zip(*pieces, strict=True))), batch.weight.sum()
    return torch.stack([_descended(learner, strategy, p, state, p.weight.sum() / whole) for p in parts]).sum()


def _descended(learner: Learner, strategy: Strategy, batch: Batch, state: State, share: Tensor | float) -> Tensor:
    learner.phase("forward")
    outputs = learner.outputs(batch.x, batch.task)
    told = learner.loss(outputs, batch)
    learner.phase("penalty")
    loss = share * (told + strategy.penalty(learner, batch, outputs, state))
    learner.phase("backward")
    loss.backward()
    return loss.detach()


def _order(experience, plan, root, replays: int, per_epoch: int, first: int, last: int) -> Iterator[Tensor]:
    """The index of every step's batch, known ahead: what is slow to read can be under way."""
    order: list[Tensor] = []
    for step in range(first, last):
        epoch, k = divmod(step // replays, per_epoch)
        if (k == 0 and step % replays == 0) or not order:
            order = batches(experience, plan, root, epoch)
        yield order[k]


def batches(experience: Experience, plan: Plan, root: Rng, epoch: int = 0) -> list[Tensor]:
    """The indices of an epoch's batches, shuffled. A lone last sample joins the batch before it:
    a batch of one has no batch statistics."""
    order = torch.randperm(len(experience), generator=root.fold(experience.index, "epoch", epoch)["order"])
    parts = list(order.to(experience.train.device).split(plan.batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def refuse_divergence(losses: Tensor, learner: Learner, experience: int, per_epoch: int) -> None:
    if not losses.isfinite().all():
        step = int((~losses.isfinite()).nonzero()[0])
        where = f"experience {experience}, epoch {step // per_epoch}, step {step} of the experience"
        raise Diverged(f"the loss became {losses[step].item()} at {where}; a smaller learning rate is the usual remedy")
    for name, p in learner.params.items():
        if not p.isfinite().all():
            where = f"experience {experience}, epoch {(len(losses) - 1) // per_epoch}, step {len(losses) - 1}"
            raise Diverged(f"weights of {name} are not finite at {where}; a smaller learning rate is the usual remedy")


def evaluate(
    learner: Learner, experiences: Sequence[Experience], strategy: Strategy, state: State
) -> tuple[float, ...]:
    """Accuracy on the test split of each experience."""
    return judged(learner, experiences, lambda b: strategy.answer(learner, b, learner.outputs(b.x, b.task), state))


@torch.no_grad()
def judged(
    learner: Learner, experiences: Sequence[Experience], answers: Callable[[Batch], Tensor], chunk: int = 4096
) -> tuple[float, ...]:
    """Accuracy of the (B, C) outputs that `answers` gives; the device is read once, at the end."""

    def right(b: Batch) -> Tensor:
        return learner.masked(answers(b), b.task).argmax(1) == b.y

    if not experiences:
        return ()
    with learner.resting():
        hits = [torch.cat([right(b) for b in e.test.chunks(chunk)]).double().mean() for e in experiences]
    return tuple(torch.stack(hits).tolist())
