"""A learned optimizer (Andrychowicz et al. 2016, arXiv:1606.04474)."""

from dataclasses import dataclass
from math import e, sqrt

import torch
from torch import Tensor
from torch.func import grad

from .base import Params
from .maml import MAML

FLAT = 10.0  # p of the paper's preprocessing: gradients below exp(-p) are told apart no more by their logarithm


@dataclass(frozen=True)
class LearnedOptimizer(MAML):
    """Tasks move weights by what a small LSTM makes of their gradients, each weight by itself: θ ← θ + lr · m(∇L, h)
    (eq. 3), learned along with the weights to start from, by the loss on the queries after the last step.

    Gradients go into the LSTM as (log |g| / p, sign g) (appendix A); derivatives of them are left out, as published.
    start: whether the weights to start from are learned too; published without.
    """

    lr: float = 0.1
    steps: int = 5
    hidden: int = 20
    start: bool = True

    def init(self, weights, chance):
        like, h = next(iter(weights.values())), self.hidden
        shapes = {"input": (2, 4 * h), "state": (h, 4 * h), "bias": (4 * h,), "output": (h, 1)}
        rule = {k: ((2 * torch.rand(shape, generator=chance) - 1) / sqrt(h)).to(like) for k, shape in shapes.items()}
        return {"weights": weights, "rule": rule | {"output": torch.zeros_like(rule["output"])}}

    def adapted(self, loss, learned, x, y, steps=None):
        weights, rule = dict(learned["weights"]), learned["rule"]
        if not self.start:
            weights = {k: v.detach() for k, v in weights.items()}
        sizes = [v.numel() for v in weights.values()]
        like = next(iter(weights.values()))
        h = c = like.new_zeros(sum(sizes), self.hidden)
        for _ in range(self.steps if steps is None else steps):
            slope = grad(loss)(weights, x, y)
            flat = torch.cat([g.detach().flatten() for g in slope.values()])
            h, c = _remembered(rule, _told(flat), h, c)
            moves = (h @ rule["output"]).flatten().split(sizes)
            weights = {k: v + self.lr * m.view_as(v) for (k, v), m in zip(weights.items(), moves, strict=True)}
        return weights


def _told(g: Tensor) -> Tensor:
    """Gradients (P,) as (P, 2) inputs that tell sizes apart over many magnitudes."""
    large = g.abs() >= e**-FLAT
    size = torch.where(large, g.abs().clamp(min=e**-FLAT).log() / FLAT, -1.0)
    return torch.stack([size, torch.where(large, g.sign(), e**FLAT * g)], 1)


def _remembered(rule: Params, told: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM, the same for each of P weights."""
    gates = told @ rule["input"] + h @ rule["state"] + rule["bias"]
    into, keep, out, new = gates.chunk(4, 1)
    c = (keep + 1).sigmoid() * c + into.sigmoid() * new.tanh()
    return out.sigmoid() * c.tanh(), c
