"""The loop of meta-learning: it draws tasks, follows their mean gradient, and yields a milestone every so often."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.func import vmap

from ...notation import expect_types
from ...streams.episodes import Episodes, Phase, Tasks
from ..numerics.divergence import Diverged
from ..numerics.pytree import copied
from ..numerics.rng import Rng
from .base import MetaLearner, Params, TaskLoss, Told, weights_of
from .hook_checks import expect_learned, expect_told

Gradient = Callable[[dict[str, Params], Episodes], Told]  # of what is learned, on some tasks
Share = Callable[[dict[str, Params], list[Episodes], Rng], list[Told]]  # what each part of a meta-batch says, in order


@dataclass(frozen=True)
class MetaPlan:
    """How long is meta-learned: `iterations` of the outer optimizer, `batch` tasks each.

    parts: that a meta-batch falls into, whose gradients are added up in order. Workers share them, and who has
    reckoned which changes no bit of the sum; another number of parts rounds otherwise. compiled: gradients by
    torch.compile, which takes a quarter of a minute to begin with (`benchmarks/meta.py`), and rounds otherwise too.
    """

    iterations: int = 10_000
    batch: int = 25
    every: int = 1000  # iterations between milestones; the last is one too
    judged: int = 200  # validation tasks at a milestone
    parts: int = 1
    compiled: bool = False

    def __post_init__(self):
        expect_types(self)
        for name in ("iterations", "batch", "every", "judged", "parts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.parts > self.batch:
            raise ValueError(f"{self.batch} tasks do not fall into {self.parts} parts")


@dataclass(frozen=True, eq=False)
class MetaBookmark:
    """A place between two milestones to go on from."""

    iteration: int  # that are done
    checkpoint: dict[str, Any]  # with the same arguments, all that `meta_learn` needs to go on


@dataclass(frozen=True, eq=False)
class MetaMilestone:
    iteration: int
    loss: float  # on the queries of the tasks since the milestone before, after adapting; of those that went well
    diverged: int  # tasks since the milestone before that were left out
    judged: dict[str, list[float]]  # on validation tasks before adapting and after as many steps as in training
    checkpoint: dict[str, Any]


def never() -> bool:
    return False


def meta_learn(
    tasks: Tasks,
    model: nn.Module,
    loss: TaskLoss,
    learner: MetaLearner,
    optimizer: Callable[..., optim.Optimizer],
    plan: MetaPlan,
    rng: Rng,
    checkpoint: dict[str, Any] | None = None,
    due: Callable[[], bool] = never,
    share: Share | None = None,
) -> Iterator[MetaMilestone | MetaBookmark]:
    """Meta-learn `model` (whose weights are the start, and stay as they are) on `tasks`, by a `task_loss` of it.

    due: asked after every iteration; where it says yes, a bookmark is yielded. It changes no number. share: who
    reckons the parts of a meta-batch; this process by default.
    Every random number comes from `rng`, the iteration and the part, so a run that goes on from a checkpoint ends
    with the bits of one that never stopped. Raises Diverged, naming the inner rate, where no task of an iteration went
    well; ValueError for layers that meta-learning cannot do with.
    """
    learned = learner.init(weights_of(model), rng.fold("meta")["init"])
    expect_learned(learner, learned)
    if checkpoint is not None:
        learned = {k: {n: v.clone() for n, v in part.items()} for k, part in checkpoint["learned"].items()}
    leaves = [v.requires_grad_() for part in learned.values() for v in part.values()]
    outer = optimizer(leaves)
    if checkpoint is not None:
        outer.load_state_dict(checkpoint["optimizer"])
    share = share or partial(alone, gradient_of(learner, loss, plan.compiled))
    first = checkpoint["iteration"] if checkpoint else 0
    losses = list(checkpoint["losses"]) if checkpoint else []  # since the milestone before, (1,) of each iteration
    diverged = checkpoint["diverged"] if checkpoint else 0

    def now_at(done: int) -> dict[str, Any]:
        kept = {k: {n: v.detach().clone() for n, v in part.items()} for k, part in learned.items()}
        since = torch.stack(losses) if losses else torch.zeros(0)
        optimizer_state = copied(outer.state_dict())
        at = {"learned": kept, "optimizer": optimizer_state, "iteration": done, "losses": since}
        return at | {"diverged": diverged}

    for i in range(first, plan.iterations):
        now = rng.fold("meta", i)
        still = {k: {n: v.detach() for n, v in part.items()} for k, part in learned.items()}
        drawn = tasks.draw(plan.batch, now["tasks"])
        told = Told.joined(share(still, parted(drawn, plan.parts), now))
        if i == first:
            expect_told(learner, told, still, plan.batch)
        if not told.finite.any():
            raise Diverged(
                f"iteration {i}: the loss of all {plan.batch} tasks is not finite after {learner.steps} steps; lower "
                f"the inner rate (lr={learner.lr:g})"
            )
        losses.append(told.losses[told.finite].mean())
        diverged += int((~told.finite).sum())
        gradient = told.gradient
        for k, part in learned.items():
            for n, v in part.items():
                v.grad = gradient[k][n]
        outer.step()
        if (i + 1) % plan.every == 0 or i + 1 == plan.iterations:
            mean, left_out = torch.stack(losses).mean().item(), diverged
            losses, diverged = [], 0
            at = now_at(i + 1)
            drawn = tasks.draw(plan.judged, rng.fold("meta", "validation")["tasks"], _judging(tasks))
            judged = judge(learner, loss, at["learned"], drawn, sorted({0, learner.steps}), rng.fold("judge"))
            means = {name: [v.mean().item() for v in values] for name, values in judged.items()}
            yield MetaMilestone(i + 1, mean, left_out, means, at)
        elif due():
            yield MetaBookmark(i + 1, now_at(i + 1))


def alone(gradient: Gradient, learned: dict[str, Params], parts: list[Episodes], rng: Rng) -> list[Told]:
    """What every part of a meta-batch says, reckoned in this process."""
    return [one_part(gradient, learned, part, rng, n) for n, part in enumerate(parts)]


def one_part(gradient: Gradient, learned: dict[str, Params], part: Episodes, rng: Rng, n: int) -> Told:
    """What the n-th part says: the same whoever reckons it."""
    rng.fold("part", n).seed_torch()
    return gradient(learned, part)


def gradient_of(learner: MetaLearner, loss: TaskLoss, compiled: bool = False) -> Gradient:
    """The learner's gradient. Raises ValueError where it is to be compiled and cannot be."""
    if not compiled:
        return partial(_gradient, learner, loss)
    if not loss.together:
        raise ValueError(
            "tasks of this model are learned one after the other, which would be compiled task by task; take a model "
            "without convolutions or weights in its normalisations, or leave out compiled"
        )

    def plain(learned: dict[str, Params], tasks: Episodes):
        told = learner.gradient(loss, learned, tasks)
        return told.total, told.losses, told.finite

    fast = torch.compile(plain, dynamic=False)

    def gradient(learned: dict[str, Params], tasks: Episodes) -> Told:
        if loss.order is not None:
            loss.order(tasks.support_x[0])  # known from here on, and nothing of what is compiled
        with loss.learning():
            return Told(*fast(learned, tasks))

    return gradient


def _gradient(learner: MetaLearner, loss: TaskLoss, learned: dict[str, Params], tasks: Episodes) -> Told:
    with loss.learning():  # a learner of one's own may have a gradient of its own
        return learner.gradient(loss, learned, tasks)


def parted(tasks: Episodes, parts: int) -> list[Episodes]:
    """T tasks in parts as even as can be."""
    return [Episodes(*some) for some in zip(*(one.tensor_split(parts) for one in tasks), strict=True)]


@torch.no_grad()
def judge(
    learner: MetaLearner,
    loss: TaskLoss,
    learned: dict[str, Params],
    tasks: Episodes,
    steps: Sequence[int],
    rng: Rng,
) -> dict[str, list[Tensor]]:
    """Losses, and accuracies where y are classes, on the queries of T tasks after each number of steps: (T,) each."""
    told: dict[str, list[Tensor]] = {}
    for count in steps:
        rng.seed_torch()
        losses, answers = answered(learner, loss, learned, tasks, count)
        told.setdefault("loss", []).append(losses)
        if loss.classes is not None:
            told.setdefault("accuracy", []).append((answers.argmax(-1) == tasks.query_y).double().mean(1))
    return told


def answered(
    learner: MetaLearner, loss: TaskLoss, learned: dict[str, Params], tasks: Episodes, steps: int
) -> tuple[Tensor, Tensor]:
    """Losses (T,) and outputs (T, Q, ...) on the queries of T tasks, after so many steps on each.

    In evaluation mode: dropout is off in the steps on the support and on the queries.
    """

    def one(*task: Tensor) -> tuple[Tensor, Tensor]:
        own = Episodes._make(task)
        answers = learner.answers(loss, learned, own.support_x, own.support_y, own.query_x, steps)
        return loss.of(answers, own.query_y), answers

    with loss.resting():
        if loss.together:
            return vmap(one, randomness="different", chunk_size=100)(*tasks)
        each = [one(*task) for task in zip(*tasks, strict=True)]
    return torch.stack([losses for losses, _ in each]), torch.stack([answers for _, answers in each])


def _judging(tasks: Tasks) -> Phase:
    """The phase whose tasks a milestone is judged by: never that of the final test."""
    return "validation" if "validation" in tasks.phases else "train"
