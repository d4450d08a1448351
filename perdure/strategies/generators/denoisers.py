"""Networks that tell noise from data: of (B, D) vectors, or of images.

Times and conditions are those of the samples (B,), or few of which each sample goes by one: `at` (B,) says which.
"""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor, nn

from ..distributed import collectives


class Moment(nn.Module):
    """(B,) times in (0, 1] and (B,) conditions to (B, width); the last condition, K, is that none is given."""

    def __init__(self, conditions: int, width: int):
        super().__init__()
        self.waves = 64
        self.body = nn.Sequential(nn.Linear(self.waves, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Embedding(conditions + 1, width)

    def forward(self, time: Tensor, y: Tensor) -> Tensor:
        half = self.waves // 2
        rates = torch.exp(-log(10000) * torch.arange(half, device=time.device) / half) * 1000
        angles = time[:, None] * rates
        return nn.functional.silu(self.body(torch.cat([angles.sin(), angles.cos()], 1)) + self.condition(y))


class Perceptron(nn.Module):
    """Residual layers on vectors (B, D), each scaled and shifted by time and condition."""

    def __init__(self, size: int, conditions: int, width: int, depth: int):
        super().__init__()
        self.moment = Moment(conditions, width)
        self.enter, self.leave = nn.Linear(size, width), nn.Linear(width, size)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        self.turns = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x: Tensor, time: Tensor, y: Tensor, at: Tensor | None = None) -> Tensor:
        return _spread(self._told, x, time, y, at)

    def _told(self, x: Tensor, time: Tensor, y: Tensor, at: Tensor | None = None) -> Tensor:
        moment, h = self.moment(time, y), self.enter(x)
        for norm, turn, layer in zip(self.norms, self.turns, self.layers, strict=True):
            turned = turn(moment) if at is None else turn(moment)[at]
            scale, shift = turned.chunk(2, 1)
            h = h + layer(nn.functional.silu(norm(h) * (1 + scale) + shift))
        return self.leave(h)


class UNet(nn.Module):
    """Convolutions down to a quarter of an image and up again, with what was seen on the way down at hand.

    (B, D) flat images of `shape` (C, H, W), H and W multiples of 4, to (B, D) (Ronneberger et al. 2015,
    arXiv:1505.04597; without attention).
    """

    def __init__(self, shape: tuple[int, ...], conditions: int, width: int):
        super().__init__()
        if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
            raise ValueError(f"a U-Net needs images of sides that 4 divides, got {shape}; use network='mlp'")
        self.shape, wide = shape, 2 * width
        self.moment = Moment(conditions, wide)
        self.enter = nn.Conv2d(shape[0], width, 3, padding=1)
        self.down = nn.ModuleList([Block(width, width, wide), Block(width, wide, wide)])
        self.halve = nn.ModuleList(nn.Conv2d(n, n, 3, stride=2, padding=1) for n in (width, wide))
        self.middle = Block(wide, wide, wide)
        self.up = nn.ModuleList([Block(wide + wide, width, wide), Block(width + width, width, wide)])
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, shape[0], 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, y: Tensor, at: Tensor | None = None) -> Tensor:
        return _spread(self._told, x, time, y, at)

    def _told(self, x: Tensor, time: Tensor, y: Tensor, at: Tensor | None = None) -> Tensor:
        moment, h, seen = self.moment(time, y), self.enter(x.unflatten(1, self.shape)), []
        moment = moment if at is None else moment[at]
        for block, halve in zip(self.down, self.halve, strict=True):
            h = block(h, moment)
            seen.append(h)
            h = halve(h)
        h = self.middle(h, moment)
        for block in self.up:
            h = block(torch.cat([nn.functional.interpolate(h, scale_factor=2.0), seen.pop()], 1), moment)
        return self.leave(h).flatten(1)


class Block(nn.Module):
    """Two convolutions around a shift by time and condition, and a way past them."""

    def __init__(self, before: int, wide: int, moment: int):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, wide, 3, padding=1))
        self.turn = nn.Linear(moment, wide)
        self.second = nn.Sequential(nn.GroupNorm(8, wide), nn.SiLU(), nn.Conv2d(wide, wide, 3, padding=1))
        self.past = nn.Conv2d(before, wide, 1) if before != wide else nn.Identity()

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        return self.past(x) + self.second(self.first(x) + self.turn(moment)[:, :, None, None])


def _spread(told: Callable[..., Tensor], x: Tensor, time: Tensor, y: Tensor, at: Tensor | None) -> Tensor:
    """Workers share the samples out; times and conditions that samples go by stay whole."""
    if at is None:
        return collectives.spread(told, x, time, y)
    return collectives.spread(lambda x, at: told(x, time, y, at), x, at)
