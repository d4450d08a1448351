"""Gradient ascent within a ball (Goodfellow et al. 2015, arXiv:1412.6572; Kurakin et al. 2017, arXiv:1607.02533;
Madry et al. 2018, arXiv:1706.06083)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .base import Aim, Attack, refuse_target
from .norms import NORMS, Norm, NormName, refuse_no_ball
from .oracles import Loss, Victim, open_classes, warn_of_masks

LossName = Literal["ce", "margin", "targets"]


@dataclass(frozen=True)
class PGD(Attack):
    """Climb the loss in steps, each kept in the ball and in [0, 1] (Madry et al. 2018, arXiv:1706.06083).

    x <- clip(x0 + project(x + step * steepest(gradient) - x0)): steepest is the sign for linf, the unit gradient for
    l2, the few largest coordinates for l1. loss: cross-entropy (`ce`), the margin of the logits, whose slope never
    dies out, or the margin of each other class in turn (`targets`), the likeliest first, one a restart. A sample that
    is fooled is left as it is.
    """

    eps: float = 0.1
    steps: int = 40
    norm: NormName = "linf"
    step: float | None = None  # size of a step; 2.5 eps / steps by default, 5 for l1, which moves few coordinates
    restarts: int = 1
    random: bool = True  # start anywhere in the ball, else at the sample
    loss: LossName = "ce"
    target: int | None = None  # class to be answered; None for any wrong one

    def __post_init__(self):
        refuse_no_ball(self.eps, self.norm)
        refuse_target(self.target)
        if self.steps < 1 or self.restarts < 1 or (self.step is not None and self.step <= 0):
            raise ValueError(
                f"expected steps and restarts of at least 1 and a step above 0, got {self.steps}, {self.restarts} "
                f"and {self.step}"
            )
        if self.loss == "targets" and self.target is not None:
            raise ValueError("loss='targets' tries one class after another; take loss='margin' for one target")

    def perturb(self, victim, x, y, chance):
        aim, ball = Aim.of(y, self.target), Ball(x, self.eps, NORMS[self.norm])
        rows, found = torch.arange(len(x), device=x.device), x.clone()
        likely = self._likely(victim, x, rows, y) if self.loss == "targets" else None
        for restart in range(self.restarts):
            if not len(rows):
                break
            start = x[rows]
            if self.random:
                start = ball.random(rows, chance, restart)
            loss = aim.loss(self.loss) if likely is None else towards(y, likely[:, restart])
            z, done = ascend(victim, start, rows, ball, loss, aim.reached, self.steps, self.length)
            found[rows] = z
            rows = rows[~done]
        return found

    @property
    def length(self) -> float:
        return self.step or (5.0 if self.norm == "l1" else 2.5) * self.eps / self.steps

    def _likely(self, victim: Victim, x: Tensor, rows: Tensor, y: Tensor) -> Tensor:
        """(N, restarts) the other classes that are open, the likeliest first, and once all had their turn again."""
        logits = victim.scores(x, rows)
        others = open_classes(logits).scatter(1, y[:, None], False)
        order = logits.masked_fill(~others, -torch.inf).argsort(1, descending=True)
        turn = torch.arange(self.restarts, device=x.device) % others.sum(1, keepdim=True).clamp(min=1)
        return order.gather(1, turn)


@dataclass(frozen=True)
class FGSM(Attack):
    """One step to the border of the ball, x + eps sign(gradient) (Goodfellow et al. 2015, arXiv:1412.6572).

    random=True starts anywhere in the ball and steps by 1.25 eps: what fast adversarial training uses (Wong et al.
    2020, arXiv:2001.03994).
    """

    eps: float = 0.1
    norm: NormName = "linf"
    random: bool = False
    step: float | None = None  # eps by default, 1.25 eps after a random start
    target: int | None = None

    def __post_init__(self):
        refuse_no_ball(self.eps, self.norm)
        refuse_target(self.target)

    def perturb(self, victim, x, y, chance):
        step = self.step or (1.25 if self.random else 1.0) * self.eps or None
        one = PGD(self.eps, 1, self.norm, step, random=self.random, target=self.target)
        return one.perturb(victim, x, y, chance)


@dataclass(frozen=True)
class BIM(Attack):
    """Steps of the sign from the sample itself, kept in the ball and [0, 1] (Kurakin et al. 2017, arXiv:1607.02533)."""

    eps: float = 0.1
    steps: int = 10
    norm: NormName = "linf"
    step: float | None = None  # eps / steps by default
    target: int | None = None

    def __post_init__(self):
        refuse_no_ball(self.eps, self.norm)
        refuse_target(self.target)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def perturb(self, victim, x, y, chance):
        step = self.step or self.eps / self.steps or None
        one = PGD(self.eps, self.steps, self.norm, step, random=False, target=self.target)
        return one.perturb(victim, x, y, chance)


@dataclass(frozen=True)
class LeastLikely(Attack):
    """Descend towards the class that is least likely at first, in one step or many (Kurakin et al. 2017,
    arXiv:1607.02533): what it reaches is wrong by far, not a neighbour of the right class.
    """

    eps: float = 0.1
    steps: int = 1
    norm: NormName = "linf"
    step: float | None = None  # eps / steps by default

    def __post_init__(self):
        refuse_no_ball(self.eps, self.norm)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def perturb(self, victim, x, y, chance):
        rows = torch.arange(len(x), device=x.device)
        logits = victim.scores(x, rows)
        aim = Aim(logits.masked_fill(~open_classes(logits), torch.inf).argmin(1), True)
        ball = Ball(x, self.eps, NORMS[self.norm])
        step = self.step or self.eps / self.steps
        return ascend(victim, x, rows, ball, aim.cross_entropy, aim.reached, self.steps, step)[0]


class Ball:
    """What may be reached from samples x (N, ...): within eps of each, and in [0, 1]."""

    def __init__(self, x: Tensor, eps: float, norm: Norm):
        self.x, self.eps, self.norm = x, eps, norm

    def clipped(self, z: Tensor, rows: Tensor) -> Tensor:
        """Clipping to [0, 1] after the projection moves every value towards the sample: both hold."""
        origin = self.x[rows]
        return (origin + self.norm.project(z - origin, self.eps)).clamp(0, 1)

    def random(self, rows: Tensor, chance, turn: int) -> Tensor:
        noise = self.norm.random(tuple(self.x.shape[1:]), chance.at(rows), "start", turn)
        return self.clipped(self.x[rows] + self.eps * noise, rows)

    def stepped(self, z: Tensor, rows: Tensor, grad: Tensor, length: float) -> Tensor:
        room = torch.where(grad > 0, z < 1, z > 0)
        return self.clipped(z + length * self.norm.steepest(grad, room), rows)


def ascend(
    victim: Victim,
    start: Tensor,
    rows: Tensor,
    ball: Ball,
    loss: Loss,
    reached: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    length: float,
) -> tuple[Tensor, Tensor]:
    """(n, ...) where `start` comes to, and (n,) bool whether it got there.

    A sample leaves once it is where it should be: the forward pass of a step tells of the step before, for nothing.
    """
    z, done = start.clone(), torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    left = torch.arange(len(rows), device=rows.device)
    for t in range(steps):
        left = left[victim.affords(rows[left], victim.price)]
        if not len(left):
            break
        grad, logits = victim.gradient(z[left], rows[left], loss)
        if victim.early:
            there = reached(logits, rows[left])
            done[left[there]] = True
            left, grad = left[~there], grad[~there]
            if t == 0 and victim.exact:
                warn_of_masks(grad)
        z[left] = ball.stepped(z[left], rows[left], grad, length)
    if victim.early and len(left := left[victim.affords(rows[left], victim.toll)]):
        done[left] = reached(victim.scores(z[left], rows[left]), rows[left])
    return z, done


def towards(y: Tensor, targets: Tensor) -> Loss:
    """How far (N,) target classes are above the right ones (Gowal et al. 2019, arXiv:1910.09338)."""

    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        pair = torch.stack([targets[rows], y[rows]], 1)
        return logits.gather(1, pair) @ logits.new_tensor([1.0, -1.0])

    return loss
