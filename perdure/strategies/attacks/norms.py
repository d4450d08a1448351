"""How far an attack may go: balls around a sample, by the norm that measures them."""

from abc import ABC, abstractmethod
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor

from .sample_rng import Chance

NormName = Literal["linf", "l2", "l1"]
SPARSE = 0.05  # share of the coordinates that a step of an L1 attack moves (Tramèr & Boneh 2019, arXiv:1904.13000)
TINY = 1e-12


class Norm(ABC):
    """Perturbations are (N, ...); sizes are (N,)."""

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor: ...

    @abstractmethod
    def project(self, delta: Tensor, eps: float) -> Tensor:
        """The nearest perturbation that is no larger than eps."""

    @abstractmethod
    def steepest(self, grad: Tensor, open_: Tensor) -> Tensor:
        """Of all perturbations of size 1 the one that gains most; open_ (N, ...) bool: where there is room to move."""

    @abstractmethod
    def random(self, shape: tuple[int, ...], chance: Chance, *what: int | str) -> Tensor:
        """Perturbations (N, *shape) within the unit ball."""


class Linf(Norm):
    def size(self, delta):
        return delta.flatten(1).abs().amax(1)

    def project(self, delta, eps):
        return delta.clamp(-eps, eps)

    def steepest(self, grad, open_):
        return grad.sign()

    def random(self, shape, chance, *what):
        return chance.uniform(shape, *what).mul_(2).sub_(1)


class L2(Norm):
    def size(self, delta):
        return delta.flatten(1).norm(dim=1)

    def project(self, delta, eps):
        return delta * wide((eps / self.size(delta).clamp(min=TINY)).clamp(max=1), delta)

    def steepest(self, grad, open_):
        return grad / wide(self.size(grad).clamp(min=TINY), grad)

    def random(self, shape, chance, *what):
        """Uniform in the ball: a direction, and the radius of a uniform share of its volume."""
        direction = chance.normal(shape, *what)
        radius = chance.uniform((), *what, "radius").pow(1 / prod(shape))
        return direction * wide(radius / self.size(direction).clamp(min=TINY), direction)


class L1(Norm):
    def size(self, delta):
        return delta.flatten(1).abs().sum(1)

    def project(self, delta, eps):
        """Soft-thresholding at the level that leaves eps (Duchi et al. 2008, ICML)."""
        flat = delta.flatten(1)
        order = flat.abs().sort(1, descending=True).values
        above = order.cumsum(1) - eps
        count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
        last = (order * count > above).sum(1, keepdim=True).clamp(min=1)
        level = (above.gather(1, last - 1) / last).clamp(min=0)
        thin = (flat.abs() - level).clamp(min=0) * flat.sign()
        return torch.where(self.size(flat)[:, None] > eps, thin, flat).view_as(delta)

    def steepest(self, grad, open_):
        """Shared by the coordinates of largest gradient: one alone would take a step for every coordinate."""
        flat = (grad * open_).flatten(1)
        count = max(1, round(SPARSE * flat.shape[1]))
        best = flat.abs().topk(count, 1)
        chosen = torch.zeros_like(flat).scatter_(1, best.indices, (best.values > 0).to(flat.dtype))
        return (flat.sign() * chosen / chosen.sum(1, keepdim=True).clamp(min=1)).view_as(grad)

    def random(self, shape, chance, *what):
        """Uniform in the ball: exponential shares with random signs, and the radius of a share of the volume."""
        shares = -torch.log1p(-chance.uniform(shape, *what)) * chance.signs(shape, *what, "sign")
        radius = chance.uniform((), *what, "radius").pow(1 / prod(shape))
        return shares * wide(radius / self.size(shares).clamp(min=TINY), shares)


NORMS: dict[str, Norm] = {"linf": Linf(), "l2": L2(), "l1": L1()}


def wide(values: Tensor, like: Tensor) -> Tensor:
    """(N,) values for (N, ...) samples."""
    return values.view(-1, *[1] * (like.dim() - 1))


def refuse_no_ball(eps: float, norm: str = "linf") -> None:
    if not eps >= 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    if norm not in get_args(NormName):
        raise ValueError(f"norm must be one of {', '.join(get_args(NormName))}, got {norm!r}")
