"""Networks that tell two distributions apart, and what keeps a critic's slope at 1."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..numerics.rng import Rng
from .networks import perceptron

Lipschitz = Literal["gradient", "spectral"]


def critic(size: int, hidden: tuple[int, ...], lipschitz: Lipschitz | None = None) -> nn.Sequential:
    """(B, D) to (B, 1); with spectral normalisation no layer stretches more than 1 (Miyato et al. 2018,
    arXiv:1802.05957)."""
    net = perceptron(size, *hidden, 1, slope=0.2)
    if lipschitz == "spectral":
        for layer in net:
            if isinstance(layer, nn.Linear):
                spectral_norm(layer)
    return net


def flatness(net: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """½ E_real|∇η|², η a discriminator's logit: it keeps the game from circling (R1: Mescheder et al. 2018,
    arXiv:1801.04406, eq. 9), () tensor."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(net(real).sum(), real, create_graph=True)
    return slope.square().sum(1).mean() / 2


def gradient_penalty(net: Callable[[Tensor], Tensor], a: Tensor, b: Tensor, rng: Rng) -> Tensor:
    """Mean of (|∇η| - 1)² on points between a and b (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3), () tensor.

    With a weight λ the slope settles at 1 + W1 / (2 λ), where the penalty outweighs what a steeper critic gains.
    """
    share = torch.rand(len(a), 1, generator=rng["between"]).to(a)
    between = (share * a + (1 - share) * b).detach().requires_grad_()
    (slope,) = torch.autograd.grad(net(between).sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()
