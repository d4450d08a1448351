"""The loop of meta-learning: it draws tasks, follows their mean gradient, and yields a milestone every so often."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.func import functional_call, vmap

from ...streams.episodes import Episodes, Phase, Tasks
from ..finite import Diverged
from ..nested import copied
from ..rng import Rng
from .base import MetaLearner, Params, goes_together, task_loss, weights_of


@dataclass(frozen=True)
class MetaPlan:
    """How long is meta-learned: `iterations` of the outer optimizer, `batch` tasks each."""

    iterations: int = 10_000
    batch: int = 25
    every: int = 1000  # iterations between milestones; the last is one too
    judged: int = 200  # validation tasks at a milestone

    def __post_init__(self):
        for name in ("iterations", "batch", "every", "judged"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class MetaMilestone:
    iteration: int  # that are done
    loss: float  # on the queries of the tasks since the milestone before, after adapting; of those that went well
    diverged: int  # tasks since the milestone before that were left out
    judged: dict[str, list[float]]  # on validation tasks before adapting and after as many steps as in training
    checkpoint: dict[str, Any]  # with the same arguments, all that `meta_learn` needs to go on


def meta_learn(
    tasks: Tasks,
    model: nn.Module,
    of: Callable[[Tensor, Tensor], Tensor],
    learner: MetaLearner,
    optimizer: Callable[..., optim.Optimizer],
    plan: MetaPlan,
    rng: Rng,
    checkpoint: dict[str, Any] | None = None,
) -> Iterator[MetaMilestone]:
    """Meta-learn `model` (whose weights are the start, and stay as they are) on `tasks`, by the loss `of` (outputs, y).

    Every random number comes from `rng` and the iteration, so a run that goes on from a checkpoint ends with the bits
    of one that never stopped. Raises Diverged, naming the inner rate, where no task of an iteration went well;
    ValueError for layers that meta-learning cannot do with.
    """
    loss, together = task_loss(model, of), goes_together(model)
    learned = learner.init(weights_of(model))
    if checkpoint is not None:
        learned = {k: {n: v.clone() for n, v in part.items()} for k, part in checkpoint["learned"].items()}
    leaves = [v.requires_grad_() for part in learned.values() for v in part.values()]
    outer = optimizer(leaves)
    if checkpoint is not None:
        outer.load_state_dict(checkpoint["optimizer"])
    first, losses, diverged = checkpoint["iteration"] if checkpoint else 0, [], 0
    for i in range(first, plan.iterations):
        now = rng.fold("meta", i)
        now.seed_torch()
        still = {k: {n: v.detach() for n, v in part.items()} for k, part in learned.items()}
        told = learner.gradient(loss, still, tasks.draw(plan.batch, now["tasks"]), together)
        if not told.finite.any():
            raise Diverged(
                f"iteration {i}: the loss of all {plan.batch} tasks is not finite after {learner.steps} steps; lower "
                f"the inner rate (lr={learner.lr:g})"
            )
        losses.append(told.losses[told.finite].mean())
        diverged += int((~told.finite).sum())
        for k, part in learned.items():
            for n, v in part.items():
                v.grad = told.gradient[k][n]
        outer.step()
        if (i + 1) % plan.every == 0 or i + 1 == plan.iterations:
            kept = {k: {n: v.detach().clone() for n, v in part.items()} for k, part in learned.items()}
            drawn = tasks.draw(plan.judged, rng.fold("meta", "validation")["tasks"], _judging(tasks))
            judged = judge(learner, model, of, kept, drawn, sorted({0, learner.steps}))
            at = {"learned": kept, "optimizer": copied(outer.state_dict()), "iteration": i + 1}
            means = {name: [v.mean().item() for v in values] for name, values in judged.items()}
            yield MetaMilestone(i + 1, torch.stack(losses).mean().item(), diverged, means, at)
            losses, diverged = [], 0


@torch.no_grad()
def judge(
    learner: MetaLearner,
    model: nn.Module,
    of: Callable[[Tensor, Tensor], Tensor],
    learned: dict[str, Params],
    tasks: Episodes,
    steps: Sequence[int],
) -> dict[str, list[Tensor]]:
    """Losses, and accuracies where y are classes, on the queries of T tasks after each number of steps: (T,) each."""
    loss, told = task_loss(model, of), {}

    def after(count: int) -> Callable[..., Any]:
        def one(*task: Tensor) -> tuple[Tensor, Tensor]:
            own = Episodes._make(task)
            weights = learner.adapted(loss, learned, own.support_x, own.support_y, count)
            outputs = functional_call(model, weights, (own.query_x,))
            return of(outputs, own.query_y), outputs

        return vmap(one, randomness="different", chunk_size=100)

    for count in steps:
        losses, outputs = after(count)(*tasks)
        told.setdefault("loss", []).append(losses)
        if not tasks.query_y.is_floating_point():
            told.setdefault("accuracy", []).append((outputs.argmax(-1) == tasks.query_y).double().mean(1))
    return told


def _judging(tasks: Tasks) -> Phase:
    """The phase whose tasks a milestone is judged by: never that of the final test."""
    return "validation" if "validation" in tasks.phases else "train"
