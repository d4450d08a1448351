"""The worst of several attacks: the honest robust accuracy (Croce & Hein 2020, arXiv:2003.01690)."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...notation import STAR
from .base import Attack, perturbed
from .norms import NORMS
from .oracles import Within, beaten
from .pgd import PGD
from .square import Square


@dataclass(frozen=True)
class Worst(Attack):
    """One attack after the other, each on what is still right; as worst(pgd(0.1), square(0.1)) (Croce & Hein 2020,
    arXiv:2003.01690).

    Without attacks of one's own: PGD on the cross-entropy with restarts, on the margin towards each other class, and
    Square, all within eps in linf. Of attacks that look for the smallest perturbation, the smallest counts.
    """

    attacks: tuple[Any, ...] = field(default=(), metadata=STAR)
    eps: float = 0.1
    steps: int = 40

    def __post_init__(self):
        for one in self.attacks:
            if not isinstance(one, Attack):
                raise ValueError(f"expected attacks, as worst(pgd(0.1), square(0.1)), got {one!r}")

    @property
    def of_images(self) -> bool:
        return any(one.of_images for one in self.members)

    @property
    def bounds(self) -> tuple[str, ...]:
        return () if self.attacks else ("eps",)

    @property
    def learns(self) -> bool:
        return any(one.learns for one in self.members)

    @property
    def members(self) -> tuple[Attack, ...]:
        if self.attacks:
            return self.attacks
        climb = PGD(self.eps, self.steps)
        return replace(climb, restarts=2), replace(climb, loss="targets", restarts=9), Square(self.eps)

    def prepared(self, victim, x, y, chance):
        return replace(self, attacks=tuple(one.prepared(victim, x, y, chance) for one in self.members))

    def perturb(self, victim, x, y, chance):
        found, members = x.clone(), self.members
        size = x.new_full((len(x),), torch.inf)
        everything = torch.arange(len(x), device=x.device)
        for one in members:
            rows = everything if one.minimal else everything[size.isinf()]
            rows = rows[victim.affords(rows, victim.toll)]
            if not len(rows):
                continue
            z = perturbed(one, Within(victim, rows), x[rows], y[rows], chance.at(rows))
            afford = victim.affords(rows, victim.toll)
            blind = ~afford & size[rows].isinf()
            found[rows[blind]] = z[blind]  # no question is left to look at it; it may fool all the same
            rows, z = rows[afford], z[afford]
            fooled = beaten(victim.scores(z, rows), y[rows])
            length = NORMS["l2"].size(z - x[rows])
            better = fooled & (length < size[rows])
            found[rows[better]], size[rows[better]] = z[better], length[better]
        return found
