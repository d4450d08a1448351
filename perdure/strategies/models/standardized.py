"""Inputs shifted and scaled before they enter a model."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PerChannel = float | tuple[float, ...]


@dataclass(frozen=True)
class Standardized:
    """Any model on (x - mean) / std, as standardized(mlp(100, 100), 0.286, 0.353); numbers or one for each channel.

    Inside the model, so that samples stay in their own box for whoever keeps, dreams up or attacks them.
    What mean and std are has to be known beforehand: a stream does not show its future.
    """

    model: Any
    mean: PerChannel = 0.5
    std: PerChannel = 0.5

    def __post_init__(self):
        if not callable(getattr(self.model, "build", None)):
            raise ValueError(f"expected a model first, as standardized(mlp, 0.5, 0.5), got {self.model!r}")
        if any(s <= 0 for s in _each(self.std)):
            raise ValueError(f"std must be above 0, got {self.std}")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        for numbers in (_each(self.mean), _each(self.std)):
            if len(numbers) not in (1, shape[0]):
                raise ValueError(f"samples of shape {shape} have {shape[0]} channels, got {len(numbers)} numbers")
        return nn.Sequential(Standardize(self.mean, self.std), self.model.build(shape, classes))


class Standardize(nn.Module):
    """(x - mean) / std of samples (B, C, ...), channel by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: PerChannel, std: PerChannel):
        super().__init__()
        self.register_buffer("mean", torch.tensor(_each(mean)), persistent=False)
        self.register_buffer("std", torch.tensor(_each(std)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        wide = (1, -1, *[1] * (x.dim() - 2))
        return (x - self.mean.view(wide)) / self.std.view(wide)


def _each(numbers: PerChannel) -> tuple[float, ...]:
    return numbers if isinstance(numbers, tuple) else (numbers,)
