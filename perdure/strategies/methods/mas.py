"""Memory aware synapses (Aljundi et al. 2018, arXiv:1711.09601)."""

from dataclasses import dataclass

import torch

from ..base import Strategy
from ..blocks.fisher import square_scores
from ..blocks.quadratic_penalty import moved, pulled


@dataclass(frozen=True)
class MAS(Strategy):
    """Pull weights back by how much the length of the answers hangs on each; no labels are needed.

    Adds strength * sum_i W_i (w_i - w_i*)^2, W_i the sum over experiences of E_x |d |f(x)|^2 / dw_i| (eq. 2 to 4).
    """

    recalls = False
    still = True
    strength: float = 1.0
    samples: int | None = None  # of each experience; None takes all

    def __post_init__(self):
        if self.strength < 0:
            raise ValueError(f"strength must not be negative, got {self.strength}")

    def steer(self, learner, grads, state):
        return pulled(grads, learner, state, 2 * self.strength)

    def consolidate(self, learner, experience, state):
        some = experience.train.some(self.samples or len(experience), learner.rng["mas"])
        total = {k: torch.zeros_like(p) for k, p in learner.params.items()}
        with learner.resting():
            for index in torch.arange(len(some.y), device=some.y.device).split(256):
                x, _, task, _ = some.batch(index)
                sizes = square_scores(learner, x, task, lambda outputs: outputs.square().sum(1), torch.abs)
                for name, size in sizes.items():
                    total[name] += size / len(some.y)
        return moved(state, total, learner)
