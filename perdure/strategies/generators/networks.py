"""What generators are built of, and how they step."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn, optim

from ...streams.experience import pixels
from ..distributed import collectives
from ..numerics.rng import Rng
from .base import Data

Bounds = tuple[float, float] | None


class Layers(nn.Sequential):
    """Layers in a row, on a batch (B, ...) that workers share out."""

    def forward(self, input: Tensor) -> Tensor:
        return collectives.spread(super().forward, input)


def perceptron(*widths: int, slope: float = 0.0) -> nn.Sequential:
    """Linear layers from widths[0] inputs to widths[-1] outputs, ReLU between them (leaky where slope > 0)."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.LeakyReLU(slope) if slope else nn.ReLU()]
    return Layers(*layers[:-1])


class Decoder(nn.Module):
    """(B, L) codes to (B, D) samples within the bounds."""

    def __init__(self, latent: int, hidden: Sequence[int], size: int, bounds: Bounds):
        super().__init__()
        self.body, self.bounds = perceptron(latent, *hidden, size), bounds

    def raw(self, z: Tensor) -> Tensor:
        """Before it is brought within bounds: the logits of Bernoulli variables."""
        return self.body(z)

    def forward(self, z: Tensor) -> Tensor:
        return self.within(self.body(z))

    def within(self, x: Tensor) -> Tensor:
        return x if self.bounds is None else self.bounds[0] + (self.bounds[1] - self.bounds[0]) * x.sigmoid()


def refuse_unlike(told: Tensor, x: Tensor) -> None:
    """Raise ValueError, with both shapes, where what a network tells would be broadcast against what it should."""
    if told.shape != x.shape:
        raise ValueError(
            f"expected a network that answers {tuple(x.shape)} with the same shape, got {tuple(told.shape)}, which "
            "would be broadcast; flatten what it answers"
        )


def adam(net: nn.Module, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> optim.Adam:
    """Of the weights that are learned: frozen ones (requires_grad=False) stay as they are."""
    learned = [p for p in net.parameters() if p.requires_grad]
    if not learned:
        raise ValueError("every weight of a network is frozen (requires_grad=False); leave some of them to be learned")
    return optim.Adam(learned, lr, betas, fused=True)


def descend(optimizer: optim.Optimizer, loss: Tensor) -> None:
    """A step of this optimizer's parameters alone: others that the loss hangs on get no gradient."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    found = collectives.mean(dict(enumerate(torch.autograd.grad(loss, params))))
    for p, g in zip(params, found.values(), strict=True):
        p.grad = g
    optimizer.step()


def batches(data: Data, size: int, rng: Rng) -> Iterator[Data]:
    """Batches (B, D) without end, flat and as float, every epoch in an order of its own."""
    size, order = min(size, len(data.x)), rng["order"]
    while True:
        for index in torch.randperm(len(data.x), generator=order).to(data.x.device).split(size):
            if len(index) == size:
                yield _part(data, index)


def in_order(data: Data, size: int = 4096) -> Iterator[Data]:
    """All samples once, flat and as float."""
    for index in torch.arange(len(data.x), device=data.x.device).split(size):
        yield _part(data, index)


def normal(shape: Sequence[int], like: Tensor, rng: Rng) -> Tensor:
    return torch.randn(tuple(shape), generator=rng["noise"]).to(like)


def _part(data: Data, index: Tensor) -> Data:
    dreamt = None if data.dreamt is None else data.dreamt[index]
    return Data(pixels(data.x[index]).flatten(1), data.y[index], dreamt)
