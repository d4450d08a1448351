"""Augmentation whose strength is meta-learned: a hypergradient through the steps on a task (Liu et al. 2019,
arXiv:1806.09055, eq. 6, for magnitudes in place of an architecture)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Params
from .maml import MAML

FIRST = 0.05  # every magnitude before any is learned


@dataclass(frozen=True)
class MetaAugmentation(MAML):
    """MAML whose support images (K, C, H, W) are changed by chance before every step, by magnitudes that are learned
    along with the weights: turns (radians), zooms, shifts (half-widths) and noise, each a factor of N(0, 1) draws.

    Queries stay as they are: a magnitude grows where steps on changed support help with them. start: whether the
    weights to start from are learned too.
    """

    start: bool = True

    def init(self, weights, chance):
        like = next(iter(weights.values()))
        raw = torch.tensor(FIRST, dtype=like.dtype, device=like.device).expm1().log()  # of which softplus is FIRST
        return {"weights": weights, "magnitudes": {k: raw.clone() for k in ("turn", "zoom", "shift", "noise")}}

    def adapted(self, loss, learned, x, y, steps=None):
        if x.dim() != 4:
            raise ValueError(f"meta_augmentation is for images (K, C, H, W), got {tuple(x.shape)}")
        now = learned
        if not self.start:
            now = now | {"weights": {k: v.detach() for k, v in learned["weights"].items()}}
        for _ in range(self.steps if steps is None else steps):
            changed = augmented(x, magnitudes(learned))
            now = now | {"weights": super().adapted(loss, now, changed, y, 1)}
        return dict(now["weights"])


def magnitudes(learned: dict[str, Params]) -> Params:
    """What has been learned of augmentation, all above 0."""
    return {k: F.softplus(v) for k, v in learned["magnitudes"].items()}


def augmented(x: Tensor, by: Params) -> Tensor:
    """Images (K, C, H, W), each turned, zoomed, shifted and made noisy by chance, differentiable in the magnitudes."""
    n = len(x)
    draws = torch.randn((4, n), dtype=x.dtype, device=x.device)
    angle, zoom = by["turn"] * draws[0], (by["zoom"] * draws[1]).exp()
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    across, down = (torch.linspace(1 / s - 1, 1 - 1 / s, s, dtype=x.dtype, device=x.device) for s in x.shape[:1:-1])
    places = torch.cartesian_prod(down, across).flip(1)  # (H W, 2), x before y, the middle of each pixel
    grid = zoom[:, None, None] * (places @ turn.mT) + (by["shift"] * draws[2:]).T[:, None]
    moved = F.grid_sample(x, grid.view(n, *x.shape[2:], 2), align_corners=False)
    return moved + by["noise"] * torch.randn_like(x)
