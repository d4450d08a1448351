"""What outputs cost against the answers that tasks ask for: means over the samples."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(ABC):
    """Subclasses are frozen dataclasses. They go through vmap.

    of_classes: whether y are classes (n,), for outputs (n, C), or values like the outputs (n, ...).
    """

    of_classes: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The mean over n samples, ()."""


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Of classes; `smoothing` of the answer is spread over all of them (Szegedy et al. 2016, arXiv:1512.00567)."""

    smoothing: float = 0.0
    of_classes = True

    def __post_init__(self):
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {self.smoothing}")

    def __call__(self, outputs, y):
        return F.cross_entropy(outputs, y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class SquaredError(Loss):
    """Mean squared error of values."""

    def __call__(self, outputs, y):
        return (outputs - y).square().mean()


@dataclass(frozen=True)
class AbsoluteError(Loss):
    """Mean absolute error of values, for which an outlier counts no more than it is off."""

    def __call__(self, outputs, y):
        return (outputs - y).abs().mean()


@dataclass(frozen=True)
class Huber(Loss):
    """Half the squared error of values up to `delta`, and a line from there (Huber 1964, Annals of Mathematical
    Statistics 35, 73)."""

    delta: float = 1.0

    def __post_init__(self):
        if self.delta <= 0:
            raise ValueError(f"delta must be above 0, got {self.delta}")

    def __call__(self, outputs, y):
        off = (outputs - y).abs()
        return torch.where(off < self.delta, off.square() / 2, self.delta * (off - self.delta / 2)).mean()
