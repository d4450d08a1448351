"""Optimizers by text; each recipe makes a fresh one after every mark of a stream, unless it is told to keep it.

torch's own, with one kernel for all parameters (`fused`), which is exact and the fastest on CPU and GPU alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn, optim


def _refuse(lr: float, weight_decay: float, moments: Iterable[float]) -> None:
    if lr <= 0:
        raise ValueError(f"lr must be above 0, got {lr}")
    if weight_decay < 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    if any(not 0 <= m < 1 for m in moments):
        raise ValueError(f"moments must decay by factors in [0, 1), got {tuple(moments)}")


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum (Sutskever et al. 2013)."""

    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    keep: bool = False  # moments live on from one experience to the next

    def __post_init__(self):
        _refuse(self.lr, self.weight_decay, (self.momentum,))

    def __call__(self, params: Iterable[nn.Parameter]) -> optim.Optimizer:
        return optim.SGD(params, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)


@dataclass(frozen=True)
class Adam:
    """Adaptive moments (Kingma & Ba 2015, arXiv:1412.6980)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    keep: bool = False

    def __post_init__(self):
        _refuse(self.lr, self.weight_decay, self.betas)

    def __call__(self, params: Iterable[nn.Parameter]) -> optim.Optimizer:
        return optim.Adam(**_on(params), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    keep: bool = False

    def __post_init__(self):
        _refuse(self.lr, self.weight_decay, self.betas)

    def __call__(self, params: Iterable[nn.Parameter]) -> optim.Optimizer:
        return optim.AdamW(**_on(params), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


def _on(params: Iterable[nn.Parameter]) -> dict[str, Any]:
    """Parameters, and how their optimizer goes about them: on a GPU its steps may be captured."""
    known = list(params)
    return {"params": known, "fused": True, "capturable": known[0].device.type == "cuda"}
