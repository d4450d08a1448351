"""Synaptic intelligence (Zenke et al. 2017, arXiv:1703.04200)."""

from dataclasses import dataclass

import torch

from ..base import Strategy
from ..blocks.quadratic_penalty import moved, pulled
from ..blocks.split_model import buffer_name


@dataclass(frozen=True)
class SynapticIntelligence(Strategy):
    """Pull weights back by how much each lowered the loss on its way.

    Adds strength * sum_i W_i (w_i - w_i*)^2, W_i the sum over experiences of w_i / (D_i^2 + damping): the path
    integral of minus gradient times movement, over the squared way D_i that was gone (eq. 4 and 5). The
    integral runs from step to step and so lies in buffers of the model.
    """

    recalls = False
    still = True
    strength: float = 1.0
    damping: float = 0.1

    def __post_init__(self):
        if self.strength < 0 or self.damping <= 0:
            raise ValueError(f"expected strength >= 0 and damping > 0, got {self.strength} and {self.damping}")

    def init(self, learner):
        for name, p in learner.params.items():
            for kind in ("path", "from", "slope", "start"):
                value = p.detach().clone() if kind in ("from", "start") else torch.zeros_like(p)
                learner.model.register_buffer(_buffer(kind, name), value)
        return {}

    @torch.no_grad()
    def steer(self, learner, grads, state):
        for name, g in grads.items():
            self._go_on(learner, name)
            learner.model.get_buffer(_buffer("slope", name)).copy_(g)
        return pulled(grads, learner, state, 2 * self.strength)

    @torch.no_grad()
    def consolidate(self, learner, experience, state):
        new = {}
        for name, p in learner.params.items():
            self._go_on(learner, name)
            path, start = (learner.model.get_buffer(_buffer(kind, name)) for kind in ("path", "start"))
            new[name] = (path / ((p - start).square() + self.damping)).clamp(min=0)
            path.zero_()
            start.copy_(p)
            learner.model.get_buffer(_buffer("slope", name)).zero_()
        return moved(state, new, learner)

    def _go_on(self, learner, name: str) -> None:
        """Add the last step's share to the path: minus the gradient before it times the movement since."""
        p = learner.params[name]
        path, came, slope = (learner.model.get_buffer(_buffer(kind, name)) for kind in ("path", "from", "slope"))
        path.addcmul_(slope, p - came, value=-1)
        came.copy_(p)


def _buffer(kind: str, name: str) -> str:
    return buffer_name(f"si_{kind}", name)
