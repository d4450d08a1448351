"""Principal component analysis of data that are read in parts (Pearson 1901; subspace iteration: Halko et al. 2011,
arXiv:0909.4061, algorithm 4.4)."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

Parts = Callable[[], Iterable[Tensor]]  # all samples once, (B, D) double at a time

WHOLE = 4096  # dimensions, up to which the covariance is decomposed as a whole
SPARE = 64  # axes that are followed beside those asked for: iteration converges as the first beyond them is smaller
CLOSE = 1e-7  # what an axis may be moved by the covariance, relative to the greatest variance, once it is found
MOST = 1000  # turns of the iteration


class Principal(NamedTuple):
    mean: Tensor  # (D,)
    axes: Tensor  # (D, k) orthonormal, that of most variance first
    dropped: Tensor  # (), the variance outside of them, summed over dimensions


def principal(parts: Parts, count: int, rng: torch.Generator) -> Principal:
    """The `count` axes of most variance, or all D where there are fewer.

    By the eigenvectors of the covariance; beyond 4,096 dimensions by subspace iteration, which reads the data anew at
    every turn, until every axis stays where it is. Raises ValueError where it does not within 1,000 turns, as on data
    whose variance is the same in more directions than it can follow.
    """
    total = [(part.sum(0), len(part)) for part in parts()]
    scale = 1 / sum(n for _, n in total)
    mean = scale * _sum(s for s, _ in total)

    def times(axes: Tensor) -> Tensor:
        """The covariance times (D, K)."""
        return scale * _sum((part - mean).T @ ((part - mean) @ axes) for part in parts())

    variance = scale * _sum((part - mean).square().sum() for part in parts())
    whole = len(mean) <= WHOLE
    values, axes = _decomposed(parts, mean, scale) if whole else _followed(times, mean, count, rng)
    return Principal(mean, axes[:, :count], (variance - values[:count].sum()).clamp(min=0))


def _decomposed(parts: Parts, mean: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    values, axes = torch.linalg.eigh(scale * _sum((part - mean).T @ (part - mean) for part in parts()))
    return values.flip(0), axes.flip(1)


def _followed(
    times: Callable[[Tensor], Tensor], mean: Tensor, count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    width = min(len(mean), 2 * count + SPARE)
    axes = torch.linalg.qr(torch.randn(len(mean), width, generator=rng).to(mean)).Q
    for _ in range(MOST):
        moved = times(axes)
        values, turn = torch.linalg.eigh(axes.T @ moved)
        values, turn = values.flip(0), turn.flip(1)
        axes, moved = axes @ turn, moved @ turn
        off = (moved - values * axes)[:, :count].norm(dim=0)
        if (off <= CLOSE * values[0]).all():
            return values, axes
        axes = torch.linalg.qr(moved).Q
    raise ValueError(
        f"no {count} principal axes of {len(mean)} dimensions were found in {MOST} turns: the variance beyond them is "
        "nearly as large; ask for another number of them"
    )


def _sum(values: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, values)
