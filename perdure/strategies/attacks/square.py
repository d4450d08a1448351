"""Random search by squares, from scores alone (Andriushchenko et al. 2020, arXiv:1912.00049)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Aim, Attack, refuse_target
from .norms import refuse_no_ball

HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: when squares shrink, as published


@dataclass(frozen=True)
class Square(Attack):
    """Set a random square of the image to -eps or +eps of every channel, and keep it where the margin grows
    (Andriushchenko et al. 2020, arXiv:1912.00049, Algorithm 1 for linf).

    Begins with vertical stripes; a square covers `share` of the image, halved as queries go by.
    """

    of_images = True
    eps: float = 0.1
    queries: int = 1000
    share: float = 0.8
    target: int | None = None

    def __post_init__(self):
        refuse_no_ball(self.eps)
        refuse_target(self.target)
        if self.queries < 1 or not 0 < self.share <= 1:
            raise ValueError(f"expected queries >= 1 and share in (0, 1], got {self.queries} and {self.share}")

    def perturb(self, victim, x, y, chance):
        aim, (depth, height, width) = Aim.of(y, self.target), x.shape[1:]
        stripes = chance.signs((depth, 1, width), "stripes")
        z = (x + self.eps * stripes).clamp(0, 1)
        best = x.new_full((len(x),), -torch.inf)
        left, found = torch.arange(len(x), device=x.device), x.clone()
        for t in range(self.queries):
            left = left[victim.affords(left, victim.toll)]
            if not len(left):
                break
            tried = z[left]
            if t:
                side = max(1, round((self._size(t) * height * width) ** 0.5))
                tried = self._painted(x[left], tried, min(side, height, width), chance.at(left), t)
            logits = victim.scores(tried, left)
            margin = aim.margin(logits, left)
            better = margin > best[left]
            kept = left[better]
            z[kept], found[kept], best[kept] = tried[better], tried[better], margin[better]
            left = left[~aim.reached(logits, left)]
        return found

    def _size(self, t: int) -> float:
        """Share of the image that the square of query t covers."""
        return self.share / 2 ** sum(t * 10_000 / self.queries > mark for mark in HALVED)

    def _painted(self, x: Tensor, z: Tensor, side: int, chance, t: int) -> Tensor:
        draws = chance.uniform((2 + x.shape[1],), "square", t)  # row, column, and a sign for each channel
        corner = [(draws[:, k] * (n - side + 1)).long()[:, None] for k, n in enumerate(x.shape[2:])]  # (n, 1)
        inside = [
            (at >= low) & (at < low + side)
            for low, at in ((c, torch.arange(n, device=x.device)) for c, n in zip(corner, x.shape[2:], strict=True))
        ]
        mask = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
        signs = torch.where(draws[:, 2:] < 0.5, -1.0, 1.0)[:, :, None, None]
        return torch.where(mask, (x + self.eps * signs).clamp(0, 1), z)
