"""An attack is frozen hyperparameters and one function: from samples to nearby samples that are answered wrongly."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics.shape_errors import expect_tensor
from .oracles import SHUT, Loss, Victim, beaten, won
from .sample_rng import Chance


@dataclass(frozen=True)
class Attack(ABC):
    """Subclasses are frozen dataclasses.

    minimal: whether it looks for the smallest perturbation that fools, instead of any within a ball.
    of_images: whether samples must be images (N, C, H, W).
    """

    minimal: ClassVar[bool] = False
    of_images: ClassVar[bool] = False

    @abstractmethod
    def perturb(self, victim: Victim, x: Tensor, y: Tensor, chance: Chance) -> Tensor:
        """Float samples x (N, ...) in [0, 1] that are answered with y (N,), as they are once they have been attacked.

        Where nothing was found the sample may come back as it is. `chance` gives every sample its own random numbers.
        """

    def prepared(self, victim: Victim, x: Tensor, y: Tensor, chance: Chance) -> "Attack":
        """The attack once it has looked at samples that it may learn from; only those that learn become another."""
        return self

    @property
    def bounds(self) -> tuple[str, ...]:
        """The fields that say how far it may go: they are shown at their defaults too."""
        return ("eps",)

    @property
    def learns(self) -> bool:
        """Whether it learns from samples together, and so must see them all at once where it has not been prepared."""
        return type(self).prepared is not Attack.prepared

    @property
    def aims_at(self) -> int | None:
        """The class that it wants answered; None for any wrong one."""
        return vars(self).get("target")


def perturbed(attack: Attack, victim: Victim, x: Tensor, y: Tensor, chance: Chance) -> Tensor:
    """What an attack makes of samples, without its graph. Raises WrongReturn for what is unlike them."""
    z = attack.perturb(victim, x, y, chance)
    expect_tensor(attack, "perturb", "samples", z, x.shape, x)
    return z.detach()


@dataclass(frozen=True)
class Aim:
    """What an attack wants: labels (N,) not to be answered, or, where it is targeted, to be answered."""

    labels: Tensor
    targeted: bool = False

    @staticmethod
    def of(y: Tensor, target: int | None) -> "Aim":
        return Aim(y) if target is None else Aim(torch.full_like(y, target), True)

    def at(self, rows: Tensor) -> "Aim":
        return Aim(self.labels[rows], self.targeted)

    def reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        """(n,) bool"""
        return (won if self.targeted else beaten)(logits, self.labels[rows])

    def cross_entropy(self, logits: Tensor, rows: Tensor) -> Tensor:
        each = F.cross_entropy(logits, self.labels[rows], reduction="none")
        return -each if self.targeted else each

    def margin(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Of the best wrong class over the right one, or of the target over the best other: it never saturates."""
        own = self.labels[rows][:, None]
        best = logits.scatter(1, own, 10 * SHUT).amax(1) - logits.gather(1, own)[:, 0]
        return -best if self.targeted else best

    def loss(self, name: str) -> Loss:
        return {"ce": self.cross_entropy, "margin": self.margin}[name]


def refuse_target(target: int | None) -> None:
    if target is not None and target < 0:
        raise ValueError(f"target must be a class from 0 on, got {target}")
