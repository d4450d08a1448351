"""A model, an optimizer and a data set of one's own in one file.

perdure compare naive "rehearsal(100)" --on "split(rings, 2)" --model "bottleneck(8)" --optimizer "clipped(0.5)" \
    --plugin examples/own_model.py
"""

from dataclasses import dataclass

import torch
from torch import nn

import perdure
from perdure.streams import Dataset, Part, Source


@dataclass(frozen=True)
class Bottleneck:
    """A perceptron that is narrow in its middle."""

    width: int = 8

    def build(self, shape, classes):
        inputs = torch.Size(shape).numel()
        wide, narrow = nn.Linear(inputs, 64), nn.Linear(64, self.width)
        return nn.Sequential(nn.Flatten(), wide, nn.ReLU(), narrow, nn.ReLU(), nn.Linear(self.width, classes))


class ClippedSGD(torch.optim.SGD):
    def step(self, closure=None):
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1.0)
        return super().step(closure)


@dataclass(frozen=True)
class Clipped:
    """Gradient descent by gradients of norm 1 at most."""

    lr: float = 0.1

    def __call__(self, params):
        return ClippedSGD(params, self.lr)


@dataclass(frozen=True)
class Rings(Source):
    """Points on rings around 0, each ring a class."""

    classes: int = 4
    samples: int = 400  # of each class; a quarter are test samples

    def load(self, places):
        chance = torch.Generator().manual_seed(0)
        y = torch.arange(self.classes).repeat(self.samples)
        angle = 2 * torch.pi * torch.rand(len(y), generator=chance)
        radius = 1 + y + 0.2 * torch.randn(len(y), generator=chance)
        x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
        test = len(y) // 4
        return Dataset(Part(x[test:], y[test:]), Part(x[:test], y[:test]), tuple(map(str, range(self.classes))))


perdure.register("bottleneck", Bottleneck)
perdure.register("clipped", Clipped)
perdure.register("rings", Rings)
