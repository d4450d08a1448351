"""Networks that mix candidate operations, for a search to choose among (Liu et al. 2019, arXiv:1806.09055)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from ...notation import STAR
from .conv4 import Conv4

SIZES = (1, 3, 5)  # of the convolutions that are mixed


@dataclass(frozen=True)
class Mixed:
    """Multilayer perceptron, as mixed(40, 40), whose layers mix ReLU, tanh, sine and nothing in place of ReLU."""

    widths: tuple[int, ...] = field(default=(40, 40), metadata=STAR)

    def __post_init__(self):
        if any(w < 1 for w in self.widths):
            raise ValueError(f"widths must be at least 1, got {self.widths}")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for a, b in pairwise((prod(shape), *self.widths)):
            layers += [nn.Linear(a, b), Mixture(activations())]
        return nn.Sequential(*layers, nn.Linear((prod(shape), *self.widths)[-1], classes))


@dataclass(frozen=True)
class MixedConv4(Conv4):
    """Conv4 each of whose blocks mixes convolutions of 1 x 1, 3 x 3 and 5 x 5, normalised each for itself."""

    width: int = 32

    def operation(self, depth):
        return (Mixture({f"{size} x {size}": nn.Sequential(*self.convolution(depth, size)) for size in SIZES}),)


class Mixture(nn.Module):
    """Σ_o softmax(α)_o o(x) (eq. 2), all operations alike to begin with."""

    def __init__(self, operations: Mapping[str, nn.Module]):
        super().__init__()
        self.operations = nn.ModuleDict(operations)
        self.mix = nn.Parameter(torch.zeros(len(operations)))

    def forward(self, x: Tensor) -> Tensor:
        each = zip(self.mix.softmax(0).unbind(), self.operations.values(), strict=True)
        return reduce(torch.add, (share * operation(x) for share, operation in each))

    def shares(self) -> dict[str, float]:
        """What every operation has of the whole."""
        return dict(zip(self.operations, self.mix.softmax(0).tolist(), strict=True))


def activations() -> dict[str, nn.Module]:
    return {"relu": nn.ReLU(), "tanh": nn.Tanh(), "sin": Sine(), "none": nn.Identity()}


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin()
