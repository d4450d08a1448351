"""Smallest step to a linearised boundary (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599)."""

from dataclasses import dataclass
from typing import Literal

import torch

from .base import Attack
from .norms import TINY, wide
from .oracles import beaten, open_classes, slack


@dataclass(frozen=True)
class DeepFool(Attack):
    """Go, again and again, to the nearest of the boundaries that the classes' linearised scores have
    (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, Algorithm 2).

    To class k it is |f_k| / |w_k|_q far, f_k = Z_k - Z_y and w_k its gradient, q the dual of the norm. What is gone is
    multiplied by 1 + overshoot, and steps go on until the classifier itself answers wrongly.
    """

    minimal = True
    steps: int = 50
    norm: Literal["l2", "linf"] = "l2"
    candidates: int = 10  # classes, the likeliest ones, whose boundaries are looked at
    overshoot: float = 0.02

    def __post_init__(self):
        if self.steps < 1 or self.candidates < 2 or self.overshoot < 0:
            raise ValueError(
                f"expected steps >= 1, candidates >= 2 and overshoot >= 0, got {self.steps}, {self.candidates} and "
                f"{self.overshoot}"
            )

    def perturb(self, victim, x, y, chance):
        left, z = torch.arange(len(x), device=x.device), x.clone()
        gone = torch.zeros_like(x)
        likely = victim.scores(x, left)
        others = likely.scatter(1, y[:, None], -torch.inf).topk(min(self.candidates, likely.shape[1]) - 1).indices
        possible = open_classes(likely).gather(1, others)
        nudge = 2 * slack(likely)[:, None]  # a bare boundary is to be crossed

        def above(logits, rows):
            return logits.gather(1, others[rows]) - logits.gather(1, y[rows, None])

        for _ in range(self.steps):
            left = left[victim.affords(left, victim.price)]
            if not len(left):
                break
            slopes, logits = victim.jacobian(z[left], left, above)  # (n, K, ...)
            going = ~beaten(logits, y[left])
            left, slopes, logits = left[going], slopes[going], logits[going]
            if not len(left):
                break
            gap = above(logits, left).neg().clamp(min=0)  # (n, K)
            stuck = gap.amin(1, keepdim=True) < nudge[left]  # logits that share a large offset come in coarse steps
            nudge[left] *= 1.0 + stuck
            flat = slopes.flatten(2)
            steep = flat.norm(dim=2) if self.norm == "l2" else flat.abs().sum(2)
            far = ((gap + nudge[left]) / steep.clamp(min=TINY)).masked_fill(~possible[left], torch.inf)
            nearest = far.argmin(1, keepdim=True)
            slope = slopes[torch.arange(len(left), device=x.device), nearest[:, 0]]
            reach = far.gather(1, nearest)[:, 0].clamp(max=1e3)
            unit = slope / wide(slope.flatten(1).norm(dim=1).clamp(min=TINY), slope)
            gone[left] += wide(reach, slope) * (unit if self.norm == "l2" else slope.sign())
            z[left] = (x[left] + (1 + self.overshoot) * gone[left]).clamp(0, 1)
        return z
