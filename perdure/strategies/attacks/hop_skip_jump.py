"""Along the boundary, from labels alone (Chen et al. 2020, arXiv:1904.02144)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Attack
from .norms import NORMS, wide
from .oracles import Victim
from .sample_rng import Chance

TRIES = 40  # random images to begin with: noise alone is one class to many networks, so it comes in all grains
BEYOND = 2e-3  # of the way, past the boundary: what lies on it is answered rightly where another kernel rounds


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """Walk along the boundary towards the sample, with its normal estimated from labels (Chen et al. 2020,
    arXiv:1904.02144, Algorithm 2).

    Begins with a random image that is answered wrongly. Every iteration goes to the boundary by bisection, asks `draws`
    sqrt(t) points around it for the normal, and takes the longest step along it, halved as often as needed, that is
    still answered wrongly.
    """

    minimal = True
    steps: int = 30
    norm: Literal["l2", "linf"] = "l2"
    draws: int = 50  # points around, in the first iteration

    def __post_init__(self):
        if min(self.steps, self.draws) < 1:
            raise ValueError(f"expected steps and draws of at least 1, got {self.steps} and {self.draws}")

    def perturb(self, victim, x, y, chance):
        z, rows = self._begun(victim, x, y, chance)
        if not len(rows):
            return z
        size = x[0].numel()
        precision = 0.01 / size**0.5 if self.norm == "l2" else 0.01 / size
        z[rows], rows = self._boundary(victim, x, y, z, rows, precision)
        for t in range(1, self.steps + 1):
            draws = round(self.draws * t**0.5)
            rows = rows[victim.affords(rows, 2 * draws)]
            if not len(rows):
                break
            far = NORMS[self.norm].size(z[rows] - x[rows])
            reach = 0.1 * far if t == 1 else far * precision * (size**0.5 if self.norm == "l2" else size)
            normal = self._normal(victim, y, z, rows, reach.clamp(min=1e-6), draws, chance, t)
            z[rows] = self._stepped(victim, y, z, rows, normal, far / t**0.5)
            z[rows], rows = self._boundary(victim, x, y, z, rows, precision)
        return (z + BEYOND * (z - x)).clamp(0, 1)

    def _begun(self, victim: Victim, x: Tensor, y: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
        """Wrong images, and the (n,) rows for which one was found."""
        z, left = x.clone(), torch.arange(len(x), device=x.device)
        for n in range(TRIES):
            left = left[victim.affords(left, 1)]
            if not len(left):
                break
            tried = _noise(x[left], chance.at(left), n)
            wrong = victim.labels(tried, left) != y[left]
            z[left[wrong]] = tried[wrong]
            left = left[~wrong]
        return z, (z != x).flatten(1).any(1).nonzero().flatten()

    def _boundary(self, victim, x, y, z, rows, precision: float) -> tuple[Tensor, Tensor]:
        """The last wrong point on the way to each sample, to `precision` of its length; and rows that may go on."""
        start, origin = z[rows], x[rows]
        low, high = (x.new_full((len(rows),), v) for v in (0.0, 1.0))
        fine = torch.full_like(high, precision)
        if self.norm == "linf":
            high = NORMS["linf"].size(start - origin)
            fine = precision * high
        going = torch.ones_like(rows, dtype=torch.bool)
        while bool(((high - low > fine) & going).any()):
            going &= victim.affords(rows, 1) & (high - low > fine)
            at = going.nonzero().flatten()
            if not len(at):
                break
            middle = (low[at] + high[at]) / 2
            wrong = victim.labels(self._between(origin[at], start[at], middle), rows[at]) != y[rows[at]]
            high[at], low[at] = torch.where(wrong, middle, high[at]), torch.where(wrong, low[at], middle)
        return self._between(origin, start, high), rows[victim.affords(rows, 1)]

    def _between(self, x: Tensor, z: Tensor, share: Tensor) -> Tensor:
        if self.norm == "l2":
            return x.lerp(z, wide(share, x))
        return x + (z - x).maximum(-wide(share, x)).minimum(wide(share, x))

    def _normal(self, victim, y, z, rows, reach, draws: int, chance, t: int) -> Tensor:
        """Unit directions to the wrong side: answers around the boundary, less their mean (eq. 16)."""
        total = []
        for part in torch.arange(len(rows), device=rows.device).split(max(1, 4096 // draws)):
            own, shape = rows[part], tuple(z.shape[1:])
            noise = chance.at(own).normal((draws, *shape), "around", t).to(z)
            noise = noise / wide(noise.flatten(2).norm(dim=2).flatten(), noise.flatten(0, 1)).view(
                len(own), draws, *[1] * len(shape)
            )
            near = (z[own][:, None] + wide(reach[part], noise) * noise).clamp(0, 1)
            used = (near - z[own][:, None]) / wide(reach[part], noise)
            times = own.repeat_interleave(draws)
            wrong = (victim.labels(near.flatten(0, 1), times) != y[times]).view(len(own), draws)
            sign = 2 * wrong.to(z.dtype) - 1
            mean = sign.mean(1, keepdim=True)
            weight = torch.where(mean.abs() == 1, sign, sign - mean)
            total.append(torch.einsum("ns,nsd->nd", weight, used.flatten(2)).view(len(own), *shape))
        way = torch.cat(total)
        if self.norm == "linf":
            return way.sign()
        return way / wide(way.flatten(1).norm(dim=1).clamp(min=1e-12), way)

    def _stepped(self, victim, y, z, rows, normal, length) -> Tensor:
        """The farthest of halved steps along the normal that is still wrong; where none is, the point itself."""
        moved = z[rows].clone()
        left = torch.arange(len(rows), device=rows.device)
        for _ in range(12):
            left = left[victim.affords(rows[left], 1)]
            if not len(left):
                break
            tried = (z[rows[left]] + wide(length[left], normal) * normal[left]).clamp(0, 1)
            wrong = victim.labels(tried, rows[left]) != y[rows[left]]
            moved[left[wrong]] = tried[wrong]
            left = left[~wrong]
            length = length / 2
        return moved


def _noise(x: Tensor, chance: Chance, n: int) -> Tensor:
    """Random images like x (n, ...): of single pixels, or of 1, 4, 16, 49 patches in turn."""
    noise = chance.uniform(tuple(x.shape[1:]), "begin", n).to(x)
    if x.dim() != 4 or not n % 5:
        return noise
    side = (1, 2, 4, 7)[n % 5 - 1]
    return F.interpolate(noise[:, :, :side, :side], x.shape[2:], mode="nearest")
