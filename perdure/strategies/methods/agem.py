"""Averaged gradient episodic memory (Chaudhry et al. 2019, arXiv:1812.00420)."""

from dataclasses import dataclass

from ..base import Strategy
from ..blocks.gradients import flat, loss_gradient, shaped
from ..blocks.memory import drawn, refuse_no_room, remembered


@dataclass(frozen=True)
class AGEM(Strategy):
    """Never step uphill on the past: take out of the gradient what would raise the loss on a draw from memory.

    g - min(0, g . r) / (r . r) r, with r the gradient on the draw (eq. 11).
    """

    capacity: int
    replay: int = 128  # samples of the draw

    def __post_init__(self):
        refuse_no_room(self.capacity)
        if self.replay < 1:
            raise ValueError(f"replay must be at least 1, got {self.replay}")

    def steer(self, learner, grads, state):
        if not state:
            return grads
        past, _ = drawn(state, self.replay, learner.rng["agem"])
        now, past = flat(grads), loss_gradient(learner, past, list(grads))
        excess = (now @ past).clamp(max=0.0) / (past @ past).clamp(min=1e-30)
        return shaped(now - excess * past, grads)

    def consolidate(self, learner, experience, state):
        return remembered(state, learner, experience, self.capacity, "reservoir", learner.rng["agem"])
