"""What outputs cost against the answers that tasks ask for: means over the samples."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(ABC):
    """Subclasses are frozen dataclasses. They go through vmap.

    of_classes: whether y are classes (n,), for outputs (n, C), or values like the outputs (n, ...): others are refused.
    None for a loss that looks at the shapes itself, as one of quantiles, whose outputs are not like y.
    """

    of_classes: ClassVar[bool | None] = False

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
        refuse_unlike(outputs, y, True)
        return F.cross_entropy(outputs, y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class SquaredError(Loss):
    """Mean squared error of values."""

    def __call__(self, outputs, y):
        refuse_unlike(outputs, y, False)
        return (outputs - y).square().mean()


@dataclass(frozen=True)
class AbsoluteError(Loss):
    """Mean absolute error of values, for which an outlier counts no more than it is off."""

    def __call__(self, outputs, y):
        refuse_unlike(outputs, y, False)
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
        refuse_unlike(outputs, y, False)
        off = (outputs - y).abs()
        return torch.where(off < self.delta, off.square() / 2, self.delta * (off - self.delta / 2)).mean()


@dataclass(frozen=True, eq=False)
class Aligned:
    """A loss that refuses answers which would be broadcast against the outputs."""

    of: Callable[[Tensor, Tensor], Tensor]
    of_classes: bool | None  # as of a Loss; where a function says nothing of it, whole numbers may be either

    @staticmethod
    def around(of: Callable[[Tensor, Tensor], Tensor], of_classes: bool | None) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss so wrapped, once, unless it looks at shapes itself. of_classes: of one that does not say it."""
        if isinstance(of, Aligned) or (isinstance(of, Loss) and of.of_classes is None):
            return of
        return Aligned(of, of.of_classes if isinstance(of, Loss) else of_classes)

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        refuse_unlike(outputs, y, self.of_classes)
        return self.of(outputs, y)


def refuse_unlike(outputs: Tensor, y: Tensor, of_classes: bool | None = None) -> None:
    """Raise ValueError, with both shapes, unless y are values like the outputs, or a class for each of their samples.

    of_classes: which of the two; by default either, and classes where y are whole numbers alone. Shares of classes
    (n, C), as soft labels are, are like the outputs.
    """
    alike, whole = y.shape == outputs.shape, not y.is_floating_point()
    told = outputs.dim() > 1 and outputs.shape[1] > 1 and whole and y.shape == outputs.shape[:1] + outputs.shape[2:]
    if told and of_classes is not False:
        return
    if alike and not (of_classes and whole):
        return
    wanted = {True: "a class (n,) for each of n samples", False: "values of the shape of the outputs"}
    what = wanted.get(of_classes, f"{wanted[False]}, or {wanted[True]}")  # pyright: ignore[reportArgumentType, reportCallIssue]
    raise ValueError(
        f"expected {what}, got y {tuple(y.shape)} beside outputs {tuple(outputs.shape)}, which would be broadcast; "
        "reshape y, as y[..., None], or the model's outputs"
    )
