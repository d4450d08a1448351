"""Smallest perturbation by optimisation (Carlini & Wagner 2017, arXiv:1608.04644)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Aim, Attack, refuse_target
from .norms import wide
from .oracles import Victim

INSIDE = 0.99  # of the way from 1/2 to 0 and 1: nearer, tanh is so flat that values need 40 steps to be seen moving
LOOKS = 10  # at the progress of a search: a sample that has made none, and has nothing on its way, leaves it
NUMB = 2.0  # |w| from which on tanh hides what w does: a value of 0 or 1 begins at 2.6
BETAS = (0.9, 0.999)  # of Adam


@dataclass(frozen=True)
class CW(Attack):
    """Minimise |x' - x|^2 + c max(Z_y - max_{i != y} Z_i, -kappa) over w, x' = (tanh w + 1) / 2, Z the logits
    (Carlini & Wagner 2017, arXiv:1608.04644, section VI.A).

    c is searched by bisection for every sample on its own, in `searches` rounds of at most `steps` steps of Adam. A
    sample for which nothing is found stays as it was.
    """

    minimal = True
    steps: int = 200
    searches: int = 9
    lr: float = 0.1  # in units of w
    kappa: float = 0.0  # lead in logits that a wrong class must have
    c: float = 0.1  # of the first round
    target: int | None = None

    def __post_init__(self):
        refuse_target(self.target)
        if min(self.steps, self.searches) < 1 or min(self.lr, self.c) <= 0 or self.kappa < 0:
            raise ValueError(
                f"expected steps and searches of at least 1, lr and c above 0 and kappa >= 0, got {self.steps}, "
                f"{self.searches}, {self.lr}, {self.c} and {self.kappa}"
            )

    def perturb(self, victim, x, y, chance):
        aim = Aim.of(y, self.target)
        best, size = x.clone(), x.new_full((len(x),), torch.inf)
        c, low, high = (torch.full_like(size, v) for v in (self.c, 0.0, torch.inf))
        for _ in range(self.searches):
            hit = self._search(victim, x, aim, c, best, size)
            high, low = torch.where(hit, c.minimum(high), high), torch.where(hit, low, c.maximum(low))
            c = torch.where(high.isinf(), 10 * c, (low + high) / 2)
        return best

    def _search(self, victim: Victim, x: Tensor, aim: Aim, c: Tensor, best: Tensor, size: Tensor) -> Tensor:
        """(N,) bool whether a sample was fooled with its c; `best` and `size` take what is smaller than they are."""

        def excess(logits: Tensor, rows: Tensor) -> Tensor:
            return (-aim.margin(logits, rows)).clamp(min=-self.kappa)

        w = ((2 * x - 1) * INSIDE).atanh()
        mean, square = torch.zeros_like(w), torch.zeros_like(w)
        hit, before, was = torch.zeros_like(size, dtype=torch.bool), torch.full_like(size, torch.inf), w.clone()
        left = torch.arange(len(x), device=x.device)
        for t in range(self.steps + 1):
            left = left[victim.affords(left, victim.price)]
            if not len(left):
                break
            flat = w[left].tanh()
            z = (flat + 1) / 2
            slope, logits = victim.gradient(z, left, excess)
            away = z - x[left]
            far, over = away.flatten(1).norm(dim=1), excess(logits, left)
            fooled = aim.reached(logits, left) & (over <= -self.kappa) if self.kappa else aim.reached(logits, left)
            better = fooled & (far < size[left])
            best[left[better]], size[left[better]] = z[better], far[better]
            hit[left[fooled]] = True
            grad = (2 * away + wide(c[left], z) * slope) * (1 - flat.square()) / 2
            mean[left] = mean[left].lerp(grad, 1 - BETAS[0])
            square[left] = square[left].lerp(grad.square(), 1 - BETAS[1])
            unbiased = mean[left] / (1 - BETAS[0] ** (t + 1))
            scale = (square[left] / (1 - BETAS[1] ** (t + 1))).sqrt() + 1e-8
            w[left] -= self.lr * min(1.0, 2 - 2 * t / (self.steps + 1)) * unbiased / scale
            if t % self._pause == 0:
                loss = far.square() + c[left] * over
                going = loss < before[left] - 1e-4 * before[left].abs()
                going |= before[left].isinf() | self._emerging(w[left], was[left])
                before[left], was[left] = loss, w[left]
                left = left[going | hit[left]]
        return hit

    def _emerging(self, w: Tensor, was: Tensor) -> Tensor:
        """(n,) bool whether a value comes back from where tanh is flat: nothing shows yet in the loss."""
        inwards = was.abs() - w.abs() > 0.1 * self.lr * self._pause
        return (inwards & (w.abs() > NUMB)).flatten(1).any(1)

    @property
    def _pause(self) -> int:
        """Steps between two looks at the progress."""
        return max(1, self.steps // LOOKS)
