"""Random numbers by sample: each is a hash of its sample's key and of what it is for (Salmon et al. 2011, SC11)."""

import hashlib
from math import pi, prod

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as SplitMix64 counts (Steele et al. 2014), in the signed 64 bits of torch
FIRST, SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


class Chance:
    """The random streams of N samples, drawn from all at once.

    No number depends on which samples are drawn for together, in which order or on which device: an attack comes to
    the same whatever the batches are.
    """

    def __init__(self, keys: Tensor):
        self.keys = keys  # (N,) int64

    @staticmethod
    def of(seed: int, samples: Tensor) -> "Chance":
        """Streams of samples (N,) int64, which are told apart by their numbers, in [0, 2**63)."""
        return Chance(_mixed(_mixed(samples * GOLDEN) + seed))

    def at(self, rows: Tensor) -> "Chance":
        return Chance(self.keys[rows])

    def uniform(self, shape: tuple[int, ...], *what: int | str) -> Tensor:
        """(N, *shape) float32 in [0, 1), of a purpose such as ("start", 3)."""
        return (self._bits(prod(shape), what) >> 40 & 0xFFFFFF).float().mul_(2.0**-24).view(-1, *shape)

    def signs(self, shape: tuple[int, ...], *what: int | str) -> Tensor:
        """(N, *shape) of -1 and 1."""
        return self.uniform(shape, *what).sub_(0.5).sign_().add_(0.5).sign_()

    def normal(self, shape: tuple[int, ...], *what: int | str) -> Tensor:
        """(N, *shape) standard normal, by Box and Muller (1958)."""
        first, second = (self.uniform(shape, *what, n) for n in (0, 1))
        return (-2 * torch.log1p(-first)).sqrt() * torch.cos(2 * pi * second)

    def whole(self, below: Tensor | int, shape: tuple[int, ...], *what: int | str) -> Tensor:
        """(N, *shape) int64 in [0, below)."""
        return (self.uniform(shape, *what).double() * below).long()

    def _bits(self, count: int, what: tuple[int | str, ...]) -> Tensor:
        purpose = int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "little", signed=True)
        stream = _mixed(self.keys ^ purpose)[:, None]
        return _mixed(stream + torch.arange(1, count + 1, device=stream.device) * GOLDEN)


def _mixed(z: Tensor) -> Tensor:
    """SplitMix64's finaliser; a signed shift to the right is masked, for it would draw the sign in."""
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * FIRST
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * SECOND
    return z ^ (z >> 31 & (1 << 33) - 1)
