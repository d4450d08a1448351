"""k-winners-take-all (Makhzani & Frey 2014, arXiv:1312.5663; boosted: Ahmad & Scheinkman 2019, arXiv:1903.11257)."""

import torch
from torch import Tensor, nn

from ..distributed import collectives

MEMORY = 0.99  # of the duty cycle, per step


class Winners(nn.Module):
    """Keeps the k largest activations of every sample and sets the others to 0: k = share x units, at least 1.

    In training, units that won seldom are helped by exp(boost * (share - duty)), duty their running share of
    wins, and units are dropped with probability 1 - keep before they compete; the values kept are
    never changed. Counts and duty are buffers: they go into checkpoints with the model.
    """

    duty: Tensor  # (U,) running share of samples in which a unit (of a convolution: a channel) won
    wins: Tensor  # (U,) how often it won in training so far
    keep: Tensor  # (U,) probability to take part in training

    def __init__(self, share: float, units: int, boost: float = 0.0):
        super().__init__()
        self.share, self.boost = share, boost
        self.register_buffer("duty", torch.full((units,), share))
        self.register_buffer("wins", torch.zeros(units))
        self.register_buffer("keep", torch.ones(units))

    def forward(self, x: Tensor) -> Tensor:
        score = x
        if self.training:
            score = x.detach() * self._wide(torch.exp(self.boost * (self.share - self.duty)), x)
            dropped = _noise(x) >= self._wide(self.keep, x)
            score = score.masked_fill(dropped, -torch.inf)
        flat = score.flatten(1)
        k = max(1, round(self.share * flat.shape[1]))
        won = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, flat.topk(k, 1).indices, True).view_as(x)
        if self.training:
            with torch.no_grad():
                each = won.to(self.duty.dtype)  # (B, U), of a convolution the share of its places
                each = each.flatten(2).mean(2) if each.dim() > 2 else each
                now = collectives.under_way()
                wins = each.sum(0) if now is None else collectives.sums(each.sum(0))
                self.duty.lerp_(each.mean(0) if now is None else wins / now.whole, 1 - MEMORY)
                self.wins.add_(wins)
        return x * won

    def _wide(self, units: Tensor, x: Tensor) -> Tensor:
        return units.view(1, -1, *[1] * (x.dim() - 2))


def _noise(x: Tensor) -> Tensor:
    """Uniform draws for every activation; where x is a slice of a batch, the same as for the batch."""
    now = collectives.under_way()
    return (
        torch.rand_like(x)
        if now is None
        else collectives.own(torch.rand(now.whole, *x.shape[1:], dtype=x.dtype, device=x.device))
    )


def activation(share: float, units: int, boost: float) -> nn.Module:
    """ReLU, or where a share of winners is given k-winners-take-all."""
    return Winners(share, units, boost) if share else nn.ReLU()


def refuse_no_share(share: float, boost: float) -> None:
    if not 0 <= share < 1 or boost < 0:
        raise ValueError(f"expected winners in [0, 1) and boost >= 0, got {share} and {boost}")
