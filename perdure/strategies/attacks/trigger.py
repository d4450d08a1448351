"""Trying a back door (Gu et al. 2017, arXiv:1708.06733)."""

from dataclasses import dataclass

from ...streams.poisoning.poisoned import stamped
from .base import Attack, refuse_target


@dataclass(frozen=True)
class Trigger(Attack):
    """Show the trigger of a stream backdoored(..., target, size=...): success is the share of samples of other
    classes that are then answered with the target (Gu et al. 2017, arXiv:1708.06733).
    """

    of_images = True
    target: int = 0
    size: int = 3

    def __post_init__(self):
        refuse_target(self.target)

    def perturb(self, victim, x, y, chance):
        return stamped(x, self.size)
