"""One perturbation for all samples (Moosavi-Dezfooli et al. 2017, arXiv:1610.08401)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Aim, Attack
from .norms import NORMS, NormName, refuse_no_ball


@dataclass(frozen=True)
class Universal(Attack):
    """One delta of at most eps that fools on as many samples as it can (Moosavi-Dezfooli et al. 2017,
    arXiv:1610.08401), learned by ascent on batches (Shafahi et al. 2020, arXiv:1811.11304, Algorithm 2).

    The loss of a sample is the margin, cut at `enough`, so that samples which are fooled already pull no more.
    delta is learned on other samples where there are some, else on those it is used on. Fewer steps as large as those
    of PGD: delta <- project(delta + step * steepest(mean gradient)), step falling to 0.
    """

    eps: float = 0.1
    norm: NormName = "linf"
    epochs: int = 15
    batch_size: int = 64
    step: float | None = None  # the first; eps / 2 by default
    enough: float = 5.0  # logits that a wrong class leads by, from which on a sample counts no more

    def __post_init__(self):
        refuse_no_ball(self.eps, self.norm)
        if min(self.epochs, self.batch_size) < 1:
            raise ValueError(f"expected epochs and batch_size of at least 1, got {self.epochs} and {self.batch_size}")

    def perturb(self, victim, x, y, chance):
        return self.prepared(victim, x, y, chance).perturb(victim, x, y, chance)

    def prepared(self, victim, x, y, chance):
        """The attack with its delta learned on samples x."""
        aim, norm = Aim(y), NORMS[self.norm]
        delta = norm.project(
            self.eps * norm.random(tuple(x.shape[1:]), chance.at(torch.zeros_like(y[:1])), "start"), self.eps
        )

        def loss(logits: Tensor, rows: Tensor) -> Tensor:
            return aim.margin(logits, rows).clamp(max=self.enough)

        first = self.step or self.eps / 2
        for epoch in range(self.epochs):
            order = chance.uniform((), "order", epoch).argsort()
            batches = order.split(self.batch_size)
            for n, rows in enumerate(batches):
                rows = rows[victim.affords(rows, victim.price)]
                if not len(rows):
                    continue
                grad, _ = victim.gradient((x[rows] + delta).clamp(0, 1), rows, loss)
                pull = grad.mean(0, keepdim=True)
                length = first * (1 - (epoch * len(batches) + n) / (self.epochs * len(batches)))
                delta = norm.project(delta + length * norm.steepest(pull, torch.ones_like(pull)), self.eps)
        return Additive(delta)


@dataclass(frozen=True, eq=False)
class Additive(Attack):
    """A delta (1, ...) that is there already, added to every sample."""

    delta: Tensor

    def perturb(self, victim, x, y, chance):
        return (x + self.delta).clamp(0, 1)
