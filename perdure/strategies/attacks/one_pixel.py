"""A few pixels, searched for by differential evolution (Su et al. 2019, arXiv:1710.08864)."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from .base import Aim, Attack, refuse_target
from .oracles import Victim
from .sample_rng import Chance

TOGETHER = 32  # samples whose candidates are images at once
WEIGHT = 0.5  # of the difference of two candidates, as published


@dataclass(frozen=True)
class OnePixel(Attack):
    """Change `pixels` pixels at most, found by differential evolution over place and value (Su et al. 2019,
    arXiv:1710.08864).

    A child is a + (b - c) / 2 of three others of its generation, and takes its parent's place where it is better. A
    search ends once the best margin has not grown by 1 % of how far it has come for `patience` generations.
    exhaustive=True tries every pixel at 0 and 1 in every channel instead: the whole truth for such values, of H W 2^C
    queries.
    """

    of_images = True
    pixels: int = 1
    population: int = 100
    generations: int = 30
    patience: int = 8
    exhaustive: bool = False
    target: int | None = None

    def __post_init__(self):
        refuse_target(self.target)
        if min(self.pixels, self.generations, self.patience) < 1 or self.population < 4:
            raise ValueError(
                f"expected pixels, generations and patience of at least 1 and a population of at least 4, got "
                f"{self.pixels}, {self.generations}, {self.patience} and {self.population}"
            )
        if self.exhaustive and self.pixels > 1:
            raise ValueError("exhaustive=True tries single pixels; take pixels=1")

    def perturb(self, victim, x, y, chance):
        aim, found = Aim.of(y, self.target), x.clone()
        search = self._every if self.exhaustive else self._evolved
        for rows in torch.arange(len(x), device=x.device).split(TOGETHER):
            found[rows] = search(victim, x, aim, rows, chance)
        return found

    def _every(self, victim: Victim, x: Tensor, aim: Aim, rows: Tensor, chance: Chance) -> Tensor:
        _, depth, height, width = x.shape
        values = x.new_tensor(list(product((0.0, 1.0), repeat=depth)))
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).to(x)
        every = torch.cat([torch.cat([places, v.expand(len(places), -1)], 1) for v in values])[:, None]  # (G, 1, 2 + C)
        found = x[rows].clone()
        for n, row in enumerate(rows):
            ask = torch.full((1,), int(row), device=x.device)
            genes = every[: int((victim.left(ask) // victim.toll).clamp(max=len(every)))][None]
            if genes.shape[1]:
                found[n] = painted(x[ask], genes)[0, self._judged(victim, x, aim, ask, genes)[0].argmax()]
        return found

    def _evolved(self, victim: Victim, x: Tensor, aim: Aim, rows: Tensor, chance: Chance) -> Tensor:
        own, count = chance.at(rows), self.population
        limit = x.new_tensor([*x.shape[2:], *[1.0] * x.shape[1]])  # genes: row, column, values
        genes = own.uniform((count, self.pixels, len(limit)), "genes") * limit
        found, best = x[rows].clone(), x.new_full((len(rows),), -torch.inf)
        margin = x.new_full((len(rows), count), -torch.inf)
        left = torch.arange(len(rows), device=x.device)
        first, reached, since = best.clone(), best.clone(), torch.zeros_like(left)
        for generation in range(self.generations + 1):
            left = left[victim.affords(rows[left], count * victim.toll)]
            if not len(left):
                break
            tried = genes[left] if not generation else self._children(genes[left], limit, own.at(left), generation)
            told, done = self._judged(victim, x, aim, rows[left], tried, also_reached=True)
            better = told > margin[left]
            genes[left] = torch.where(better[:, :, None, None], tried, genes[left])
            margin[left] = torch.where(better, told, margin[left])
            top = told.max(1)
            rise = top.values > best[left]
            images = painted(x[rows[left]], tried.gather(1, _at(top.indices, tried)))[:, 0]
            found[left[rise]], best[left[rise]] = images[rise], top.values[rise]
            if not generation:
                first = best.clone()
            grown = best - reached > 0.01 * (best - first).maximum(1e-3 * first.abs())
            reached, since = torch.where(grown, best, reached), torch.where(grown, 0, since + 1)
            left = left[~done & (since[left] < self.patience)]
        return found

    def _children(self, genes: Tensor, limit: Tensor, chance: Chance, generation: int) -> Tensor:
        """(n, P, k, 2 + C): of three different others each."""
        count = genes.shape[1]
        mates = chance.uniform((count, count), "mates", generation)
        mates = mates + 2 * torch.eye(count, device=genes.device)  # nobody is its own mate
        a, b, c = (genes.gather(1, _at(m, genes)) for m in mates.topk(3, largest=False).indices.unbind(2))
        child = a + WEIGHT * (b - c)
        span = limit - 1e-3 * (limit > 1)  # a place must stay within the image
        return child.clamp(min=0).minimum(span)

    def _judged(self, victim, x, aim, rows, genes, also_reached: bool = False):
        """(n, P) margins of candidates, and (n,) bool whether one of them does it."""
        count = genes.shape[1]
        times = rows.repeat_interleave(count)
        logits = victim.scores(painted(x[rows], genes).flatten(0, 1), times)
        margin = aim.margin(logits, times).view(-1, count)
        return (margin, aim.reached(logits, times).view(-1, count).any(1)) if also_reached else margin


def painted(x: Tensor, genes: Tensor) -> Tensor:
    """(n, P, C, H, W): images x (n, C, H, W), each painted over by every one of its candidates (n, P, k, 2 + C)."""
    n, depth, height, width = x.shape
    count, pixels = genes.shape[1:3]
    place = genes[..., 0].long().clamp(max=height - 1) * width + genes[..., 1].long().clamp(max=width - 1)
    flat = x.flatten(2)[:, None].repeat(1, count, 1, 1)  # (n, P, C, H W)
    at = place[:, :, None].expand(n, count, depth, pixels)
    return flat.scatter_(3, at, genes[..., 2:].transpose(2, 3)).unflatten(3, (height, width))


def _at(index: Tensor, genes: Tensor) -> Tensor:
    """(n, P) or (n,) indices of candidates, wide enough to gather genes by."""
    index = index if index.dim() == 2 else index[:, None]
    return index[:, :, None, None].expand(-1, -1, *genes.shape[2:])
