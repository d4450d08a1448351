"""Multilayer perceptron."""

from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

from torch import nn

from ...notation import STAR
from .winners import activation, refuse_no_share


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron with ReLU, as mlp(400, 400): the widths of its hidden layers."""

    widths: tuple[int, ...] = field(default=(400, 400), metadata=STAR)
    dropout: float = 0.0
    winners: float = 0.0  # share of units kept by k-winners-take-all in place of ReLU; 0 for ReLU
    boost: float = 0.0  # of units that win seldom
    bias: bool = True

    def __post_init__(self):
        if any(w < 1 for w in self.widths):
            raise ValueError(f"widths must be at least 1, got {self.widths}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        refuse_no_share(self.winners, self.boost)

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for a, b in pairwise((prod(shape), *self.widths)):
            layers += [nn.Linear(a, b, self.bias), activation(self.winners, b, self.boost)]
            layers += [nn.Dropout(self.dropout)] * (self.dropout > 0)
        return nn.Sequential(*layers, nn.Linear((prod(shape), *self.widths)[-1], classes, self.bias))
