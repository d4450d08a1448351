"""Dark experience replay (Buzzega et al. 2020, arXiv:2004.07211)."""

from dataclasses import dataclass

import torch.nn.functional as F

from ..base import Strategy
from ..blocks.features import all_outputs
from ..blocks.memory import drawn, refuse_no_room, remembered


@dataclass(frozen=True)
class DER(Strategy):
    """Remember samples together with what was answered, and answer so again.

    Adds alpha * mean |f(x') - z'|^2 + beta * cross-entropy(f(x''), y'') over two draws from the memory, z the
    outputs at the time when the sample was stored (eq. 4 and 6): beta = 0 is DER, beta > 0 DER++. Samples
    are stored at the end of their experience, not while it is learned.
    """

    capacity: int
    alpha: float = 0.5
    beta: float = 0.0

    def __post_init__(self):
        refuse_no_room(self.capacity)
        if self.alpha < 0 or self.beta < 0:
            raise ValueError(f"alpha and beta must not be negative, got {self.alpha} and {self.beta}")

    def penalty(self, learner, batch, outputs, state):
        if not state:
            return 0.0
        past, at = drawn(state, len(batch.y), learner.rng["der"])
        loss = self.alpha * F.mse_loss(learner.outputs(past.x, past.task), state["outputs"][at])
        if self.beta:
            past, _ = drawn(state, len(batch.y), learner.rng["der"])
            loss = loss + self.beta * learner.loss(learner.outputs(past.x, past.task), past)
        return loss

    def consolidate(self, learner, experience, state):
        def answers(samples):
            return {"outputs": all_outputs(learner, samples)}

        return remembered(state, learner, experience, self.capacity, "reservoir", learner.rng["der"], answers)
