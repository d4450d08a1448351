"""A network that mixes candidate operations, for a search to choose among (Liu et al. 2019, arXiv:1806.09055)."""

from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from ...notation import STAR

OPERATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sin": torch.sin, "none": lambda x: x}


@dataclass(frozen=True)
class Mixed:
    """Multilayer perceptron, as mixed(40, 40), each of whose layers has Σ_o softmax(α)_o o(x) in place of ReLU (eq. 2),
    over ReLU, tanh, sine and nothing.
    """

    widths: tuple[int, ...] = field(default=(40, 40), metadata=STAR)

    def __post_init__(self):
        if any(w < 1 for w in self.widths):
            raise ValueError(f"widths must be at least 1, got {self.widths}")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for a, b in pairwise((prod(shape), *self.widths)):
            layers += [nn.Linear(a, b), Mixture()]
        return nn.Sequential(*layers, nn.Linear((prod(shape), *self.widths)[-1], classes))


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(len(OPERATIONS)))

    def forward(self, x: Tensor) -> Tensor:
        each = torch.stack([operation(x) for operation in OPERATIONS.values()], -1)
        return each @ self.mix.softmax(0)

    def shares(self) -> dict[str, float]:
        """What every operation has of the whole."""
        return dict(zip(OPERATIONS, self.mix.softmax(0).tolist(), strict=True))
