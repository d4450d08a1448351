"""Adversarial training (Madry et al. 2018, arXiv:1706.06083; free: Shafahi et al. 2019, arXiv:1904.12843; TRADES: Zhang
et al. 2019, arXiv:1901.08573)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...streams.experience import Batch, Stream
from ..attacks.base import Attack, perturbed
from ..attacks.norms import NORMS, NormName, refuse_no_ball
from ..attacks.oracles import SHUT, White
from ..attacks.pgd import PGD, Ball, ascend
from ..attacks.sample_rng import Chance
from ..base import Strategy
from ..blocks.batch_norms import expect_apart, keep_apart, resting_statistics
from ..learner import Learner

LOOK = 1000  # samples whose range is looked at
NUDGE = 1e-3  # std of the noise that TRADES starts from: at the sample itself its loss has no slope


@dataclass(frozen=True)
class AdversarialTraining(Strategy):
    """Learn from samples as an attack leaves them: min E max_{|d| <= eps} loss(x + d, y) (Madry et al. 2018,
    arXiv:1706.06083, eq. 2.1).

    A share of every batch is attacked, drawn anew; what stands before it in the sum is attacked too, as a memory's
    samples are. No gradient flows through the attack (Danskin). Fast adversarial training (2001.03994) is
    adversarial(fgsm(random=True)). The batch statistics of attacked samples stay out of the model's running ones.
    """

    recalls = None
    still = False
    attack: Attack = PGD(steps=7)  # noqa: RUF009
    eps: float | None = None  # instead of the attack's own
    share: float = 0.5  # of a batch that is attacked
    warmup: float = 0.0  # share of an experience over which eps grows from 0

    def __post_init__(self):
        if not 0 < self.share <= 1 or not 0 <= self.warmup <= 1:
            raise ValueError(f"expected share in (0, 1] and warmup in [0, 1], got {self.share} and {self.warmup}")
        if self.eps is not None:
            refuse_no_ball(self.eps)
        if (self.eps is not None or self.warmup) and "eps" not in vars(self.attack):
            raise ValueError(f"{type(self.attack).__name__} has no eps to set")

    def curriculum(self, stream):
        _refuse_no_box(stream, self.attack.of_images)
        return stream

    def init(self, learner):
        expect_apart(learner)
        return {}

    def augment(self, learner, batch, state):
        count = max(1, round(self.share * len(batch.y)))
        rows = torch.randperm(len(batch.y), generator=learner.rng["adversarial"])[:count].to(
            batch.y.device, non_blocking=True
        )
        moved = attacked(learner, batch, rows, self._now(learner))
        keep_apart(learner, torch.zeros_like(batch.y, dtype=torch.bool).index_fill_(0, rows, True))
        return batch._replace(x=batch.x.index_copy(0, rows, moved))

    def _now(self, learner: Learner) -> Attack:
        """The attack with the eps of this step."""
        if self.eps is None and not self.warmup:
            return self.attack
        full = vars(self.attack)["eps"] if self.eps is None else self.eps
        share = min(1.0, learner.progress / self.warmup) if self.warmup else 1.0
        changed: Any = {"eps": full * share}
        if vars(self.attack).get("step"):
            changed["step"] = vars(self.attack)["step"] * share
        return replace(self.attack, **changed)


@dataclass(frozen=True)
class FreeAdversarialTraining(Strategy):
    """Learn every batch `replays` times in a row; the backward pass of a step moves the samples too, for the next one
    (Shafahi et al. 2019, arXiv:1904.12843, Algorithm 1).

    d <- clip(d + eps sign(gradient)). A step costs what a step without attack costs, and the number of steps stays what
    it is, so each sample is met 1 / replays as often. A batch begins at a random d, not at that of the batch before.
    """

    recalls = None
    eps: float = 0.1
    replays: int = 4
    norm: NormName = "linf"

    def __post_init__(self):
        refuse_no_ball(self.eps, self.norm)
        if self.replays < 1:
            raise ValueError(f"replays must be at least 1, got {self.replays}")

    def curriculum(self, stream):
        _refuse_no_box(stream, False)
        return stream

    def augment(self, learner, batch, state):
        everything = torch.arange(len(batch.y), device=batch.y.device)
        ball = Ball(batch.x, self.eps, NORMS[self.norm])
        if "free" not in learner.scratch:
            moved = ball.random(everything, chance(learner, len(batch.y)), 0)
        else:
            _, last, grad = learner.scratch["free"]
            moved = ball.stepped(last, everything, grad, self.eps)
        moved = moved.detach().requires_grad_()
        learner.scratch["free"] = (ball, moved, None)
        return batch._replace(x=moved)

    def steer(self, learner, grads, state):
        ball, moved, _ = learner.scratch["free"]
        learner.scratch["free"] = (ball, moved.detach(), moved.grad)
        return grads


@dataclass(frozen=True)
class Trades(Strategy):
    """Answer near samples as the sample itself: loss + beta max_{|d| <= eps} KL(f(x) || f(x + d)) (Zhang et al. 2019,
    arXiv:1901.08573, eq. 5).
    """

    recalls = None
    attack: PGD = PGD(steps=7)  # noqa: RUF009
    eps: float | None = None  # instead of the attack's own
    beta: float = 6.0

    def __post_init__(self):
        if self.beta < 0:
            raise ValueError(f"beta must not be negative, got {self.beta}")
        if self.eps is not None:
            refuse_no_ball(self.eps)

    def curriculum(self, stream):
        _refuse_no_box(stream, False)
        return stream

    def penalty(self, learner, batch, outputs, state):
        moved = self._moved(learner, batch)
        with resting_statistics(learner.model):
            near = learner.masked(learner.outputs(moved, batch.task), batch.task)
        each = divergence(learner.masked(outputs, batch.task), near)
        return self.beta * (batch.weight * each).sum() / batch.weight.sum()

    def _moved(self, learner: Learner, batch: Batch) -> Tensor:
        one = self.attack if self.eps is None else replace(self.attack, eps=self.eps)
        x, rows = batch.x.detach(), torch.arange(len(batch.y), device=batch.y.device)
        ball = Ball(x, one.eps, NORMS[one.norm])
        with learner.resting():
            with torch.no_grad():
                told = learner.logits(x, batch.task)
            start = ball.clipped(x + NUDGE * chance(learner, len(x)).normal(tuple(x.shape[1:]), "nudge"), rows)
            return ascend(
                victim(learner, batch), start, rows, ball, lambda z, own: divergence(told[own], z),
                lambda z, own: torch.zeros_like(own, dtype=torch.bool), one.steps, one.length,
            )[0]  # fmt: skip


def attacked(learner: Learner, batch: Batch, rows: Tensor, attack: Attack) -> Tensor:
    """(n, ...) what an attack makes of the samples at rows (n,), with all its strength; the learner rests meanwhile."""
    some = Batch(*(part[rows] for part in batch))
    with learner.resting():
        return perturbed(attack, victim(learner, some), some.x.detach(), some.y, chance(learner, len(rows)))


def victim(learner: Learner, batch: Batch) -> White:
    count = len(batch.y)
    return White(lambda x, rows: learner.logits(x, batch.task[rows]), count, batch.y.device, max(count, 1), early=False)


def chance(learner: Learner, count: int) -> Chance:
    return Chance.of(learner.rng.integer("adversarial"), torch.arange(count, device=learner.device))


def divergence(told: Tensor, near: Tensor) -> Tensor:
    """(B,) KL(softmax told || softmax near) in nats; shut classes count nothing."""
    p, q = told.log_softmax(1), near.log_softmax(1)
    return (p.exp() * (p - q).masked_fill(told < SHUT, 0)).sum(1)


def _refuse_no_box(stream: Stream, images: bool) -> None:
    part = stream[0].train
    x = part.batch(torch.arange(min(LOOK, len(part)), device=part.device)).x
    low, high = x.amin().item(), x.amax().item()
    if low < 0 or high > 1:
        raise ValueError(
            f"attacks keep samples in [0, 1], these lie from {low:g} to {high:g}; scale them, and let the model "
            "standardize its inputs itself, as standardized(mlp, mean, std) does"
        )
    if images and x.dim() != 4:
        raise ValueError(f"this attack is for images (channels, height, width), got samples of {tuple(x.shape[1:])}")
