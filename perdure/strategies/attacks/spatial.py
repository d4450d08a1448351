"""Rotations and translations (Engstrom et al. 2019, arXiv:1712.02779)."""

from dataclasses import dataclass
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Aim, Attack, refuse_target


@dataclass(frozen=True)
class Spatial(Attack):
    """Turn and shift: the worst of `draws` random angles and shifts, or of a grid of them (Engstrom et al. 2019,
    arXiv:1712.02779). What comes in from outside is black.
    """

    of_images = True
    degrees: float = 30.0  # at most, to either side
    shift: float = 3.0  # pixels at most, along either axis
    draws: int = 10
    grid: tuple[int, int] | None = None  # angles, and shifts along each axis, instead of draws: as (31, 5)
    target: int | None = None

    def __post_init__(self):
        refuse_target(self.target)
        if self.degrees < 0 or self.shift < 0 or self.draws < 1 or min(self.grid or (1,)) < 1:
            raise ValueError(
                f"expected degrees and shift of at least 0 and draws and grid of at least 1, got {self.degrees}, "
                f"{self.shift}, {self.draws} and {self.grid}"
            )

    def perturb(self, victim, x, y, chance):
        aim, found = Aim.of(y, self.target), x.clone()
        best = x.new_full((len(x),), -torch.inf)
        left = torch.arange(len(x), device=x.device)
        for turn in self._tries(chance):  # (N, 3) angle in radians, shifts in pixels
            left = left[victim.affords(left, victim.toll)]
            if not len(left):
                break
            z = moved(x[left], turn[left].to(x.dtype))
            logits = victim.scores(z, left)
            margin = aim.margin(logits, left)
            better = margin > best[left]
            found[left[better]], best[left[better]] = z[better], margin[better]
            left = left[~aim.reached(logits, left)]
        return found

    def _tries(self, chance):
        most = torch.tensor([self.degrees * pi / 180, self.shift, self.shift], device=chance.keys.device)
        if self.grid is None:
            yield from ((2 * chance.uniform((3,), "turn", n) - 1) * most for n in range(self.draws))
            return
        angles, shifts = (_spread(n).to(most) for n in self.grid)
        every = torch.cartesian_prod(angles, shifts, shifts) * most
        near = every.div(most.clamp(min=1e-12)).norm(dim=1).argsort(stable=True)  # the mildest first
        yield from (one.expand(len(chance.keys), 3) for one in every[near])


def moved(x: Tensor, turn: Tensor) -> Tensor:
    """Images (n, C, H, W) turned by (n, 3) angle in radians, shifted right and down in pixels; bilinear."""
    angle, right, down = turn.unbind(1)
    height, width = x.shape[2:]
    cos, sin = angle.cos(), -angle.sin()  # rows count downwards
    back_x, back_y = cos * right + sin * down, cos * down - sin * right  # the shift, seen before the turn
    ratio = height / width
    rows = [cos, sin * ratio, -back_x * 2 / width, -sin / ratio, cos, -back_y * 2 / height]
    theta = torch.stack(rows, 1).view(-1, 2, 3)
    where = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, where, padding_mode="zeros", align_corners=False).clamp(0, 1)


def _spread(count: int) -> Tensor:
    return torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1)
