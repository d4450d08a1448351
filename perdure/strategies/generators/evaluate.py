"""What a network trained on real samples says of a generator's: which classes it covers, and how far off it is."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..numerics.rng import Rng
from .base import Data, seeded
from .divergences import frechet
from .networks import adam, batches, descend, perceptron

FEATURES = 64  # of the network's last hidden layer


class Coverage(NamedTuple):
    classes: int  # that at least 1 % of an equal share of the samples are taken for
    entropy: float  # of the classes that samples are taken for, in nats: log K where all come equally often


@dataclass(frozen=True)
class Judge:
    """A classifier of real samples, for whom samples of generators are classes and features."""

    net: nn.Sequential

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """(N, K) of samples (N, ...)."""
        return self.net(x.flatten(1))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """(N, 64), what the last layer sees."""
        return self.net[:-1](x.flatten(1))

    def coverage(self, x: Tensor) -> Coverage:
        """Of samples (N, ...)."""
        answers = self.outputs(x)
        share = answers.argmax(1).bincount(minlength=answers.shape[1]).double() / len(x)
        return Coverage(int((share >= 0.01 / len(share)).sum()), torch.special.entr(share).sum().item())

    def agreement(self, x: Tensor, y: Tensor) -> float:
        """The share of samples (N, ...) that are taken for the class (N,) that was asked for."""
        return (self.outputs(x).argmax(1) == y).double().mean().item()

    def distance(self, x: Tensor, real: Tensor) -> float:
        """Fréchet's, between the features of samples (N, ...) and of real ones (M, ...); in features' unit, squared."""
        return frechet(self.features(x).double(), self.features(real).double()).item()


def trained(data: Data, rng: Rng, steps: int = 1500, conditions: int | None = None) -> Judge:
    """A judge by a perceptron of 256 and 64 hidden units. Raises ValueError where there is but one class."""
    count = conditions or int(data.y.max()) + 1
    if len(data.y.unique()) < 2:
        raise ValueError("who judges samples by their classes needs at least 2 of them")
    with seeded(rng.integer("judge")), torch.enable_grad():
        net = perceptron(data.x[0].numel(), 256, FEATURES, count).to(data.x.device)
        optimizer = adam(net, 1e-3)
        for _, (x, y, _) in zip(range(steps), batches(data, 128, rng.fold("judge")), strict=False):
            descend(optimizer, F.cross_entropy(net(x), y))
    return Judge(net.requires_grad_(False))
