"""Distance as a network sees it (Laidlaw et al. 2021, arXiv:2006.12655)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Aim, Attack, refuse_target
from .norms import wide

SLOPE = 1e-9  # under the root of a distance: its slope at 0 is infinite
HALVINGS = 12  # of the way back to the bound


@dataclass(frozen=True)
class Perceptual(Attack):
    """Fool within a bounded distance between hidden features of the classifier itself (Laidlaw et al. 2021,
    arXiv:2006.12655, Lagrangian attack, self-bounded).

    Climbs margin - weight * max(0, |phi(x') - phi(x)| - bound), weight growing from 1 to 10^4, and goes back towards
    the sample as far as the bound asks. phi: see `hidden`. Only where features are seen: white, gray or transfer.
    """

    bound: float = 0.5
    steps: int = 40
    step: float = 0.1  # the first, in units of phi; it falls to a tenth
    target: int | None = None

    @property
    def bounds(self) -> tuple[str, ...]:
        return ("bound",)

    def __post_init__(self):
        refuse_target(self.target)
        if self.bound <= 0 or self.steps < 1 or self.step <= 0:
            raise ValueError(
                f"expected bound and step above 0 and steps >= 1, got {self.bound}, {self.step} and {self.steps}"
            )

    def perturb(self, victim, x, y, chance):
        if not victim.shows_features:
            raise ValueError("perceptual measures distances by hidden features, which nothing shows here; use white()")
        aim = Aim.of(y, self.target)
        z = (x + 0.01 * chance.normal(tuple(x.shape[1:]), "start")).clamp(0, 1)
        found, left = x.clone(), torch.arange(len(x), device=x.device)
        near = victim.features(x, left)
        for t in range(self.steps):
            share = t / self.steps
            weight, length = 10 ** (4 * share), self.step * 0.1**share

            def loss(logits: Tensor, rows: Tensor) -> Tensor:
                return aim.margin(logits, rows).clamp(max=1.0)

            pull, _ = victim.gradient(z[left], left, loss)
            z[left] = self._step(victim, z[left], left, near, pull, weight, length)
            within = self._within(victim, x, z, left, near)
            there = aim.reached(victim.scores(within, left), left)
            found[left[there]] = within[there]
            left = left[~there]
            if not len(left):
                break
        return found

    def _step(self, victim, z, rows, near, pull, weight, length) -> Tensor:
        """A step uphill that changes the features by `length`: as long as their slope along it says."""

        def beyond(seen: Tensor, own: Tensor) -> Tensor:
            far = ((seen - near[own]).square().sum(1) + SLOPE).sqrt()
            return (far - self.bound).clamp(min=0)

        slope = victim.feature_gradient(z, rows, beyond)
        way = pull - weight * slope
        way = way / wide(way.flatten(1).norm(dim=1).clamp(min=1e-12), way)
        told = (victim.features(z + 0.1 * way, rows) - victim.features(z, rows)).norm(dim=1) / 0.1
        return (z + wide(length / told.clamp(min=1e-6), way) * way).clamp(0, 1)

    def _within(self, victim, x, z, rows, near) -> Tensor:
        """On the way from each sample to its z the farthest point that bisection finds within the bound."""
        low, high = (x.new_full((len(rows),), v) for v in (0.0, 1.0))
        at = high
        for _ in range(HALVINGS):
            point = x[rows].lerp(z[rows], wide(at, x))
            fits = (victim.features(point, rows) - near[rows]).norm(dim=1) <= self.bound
            low, high = torch.where(fits, at, low), torch.where(fits, high, at)
            if bool((low == 1).all()):
                break
            at = torch.where(low == 1, low, (low + high) / 2)
        return x[rows].lerp(z[rows], wide(low, x))
