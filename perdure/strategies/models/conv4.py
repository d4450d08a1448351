"""The four-layer convolutional network of few-shot learning (Vinyals et al. 2016, arXiv:1606.04080, section 4.1.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .images import channels


@dataclass(frozen=True)
class Conv4:
    """Four convolutions of 3 x 3, each with batch normalisation, ReLU and a halving of the image; then a linear head.

    Batches are normalised by their own mean and variance alone, in training and in tests ("transductive", as MAML's
    published figures are): nothing is remembered of other tasks. norm: False leaves normalisation out.
    """

    width: int = 64
    norm: bool = True

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        depth, (height, width) = channels(shape, "conv4"), shape[1:]
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += self.operation(depth)
            if self.norm:
                layers.append(Affine(self.width))
            layers.append(nn.ReLU())
            if min(height, width) > 1:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            depth = self.width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * height * width, classes))

    def operation(self, depth: int) -> Sequence[nn.Module]:
        """What a block begins with, on so many channels."""
        return self.convolution(depth, 3)

    def convolution(self, depth: int, size: int) -> Sequence[nn.Module]:
        conv = nn.Conv2d(depth, self.width, size, padding=size // 2)
        return (conv, nn.BatchNorm2d(self.width, affine=False, track_running_stats=False)) if self.norm else (conv,)


class Affine(nn.Module):
    """A factor and a summand for every channel of (N, C, H, W): apart from the normalisation before it, for vmap gets
    the second derivatives of one with weights of its own wrong (pytorch/functorch issue 534).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]
