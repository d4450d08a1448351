"""Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv:1612.00796; online: Schwarz et al. 2018, 1805.06370)."""

from dataclasses import dataclass
from typing import Literal

from ..base import Strategy
from ..blocks.fisher import diagonal_fisher
from ..blocks.quadratic_penalty import merged, pulled


@dataclass(frozen=True)
class EWC(Strategy):
    """Pull every weight back to where the past left it, as hard as the past depends on it.

    Adds (strength / 2) sum_t sum_i F_ti (w_i - w_ti)^2 to the loss (Kirkpatrick et al. 2017, eq. 3). The
    sum over experiences t is one quadratic in w, so two tensors per parameter hold it exactly, however
    long the stream. It knows nothing of classes that it has not met together: alone it cannot learn a
    class-incremental stream.
    """

    recalls = False
    still = True
    strength: float = 100.0
    samples: int | None = None  # of each experience, to estimate its diagonal Fisher F_t; None takes all
    labels: Literal["model", "data"] = "model"  # the true Fisher draws them from the model; the empirical does not
    decay: float = 1.0  # of what is older, per experience: online EWC below 1

    def __post_init__(self):
        if self.strength < 0:
            raise ValueError(f"strength must not be negative, got {self.strength}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be above 0 and at most 1, got {self.decay}")

    def steer(self, learner, grads, state):
        return pulled(grads, learner, state, self.strength)

    def consolidate(self, learner, experience, state):
        rng = learner.rng["ewc"]
        some = experience.train.some(self.samples or len(experience), rng)
        return merged(state, diagonal_fisher(learner, some, rng, self.labels), learner, self.decay)
