"""A strategy of one's own in one file.

perdure compare naive "l2(0.1)" --plugin examples/own_strategy.py
"""

from dataclasses import dataclass

import perdure
from perdure.strategies import Strategy


@dataclass(frozen=True)
class L2(Strategy):
    """Pull every weight back to where the last experience left it, all alike."""

    strength: float = 0.1

    def steer(self, learner, grads, state):
        if not state:
            return grads
        return {name: g + self.strength * (learner.params[name] - state[name]) for name, g in grads.items()}

    def consolidate(self, learner, experience, state):
        return {name: p.detach().clone() for name, p in learner.params.items()}


perdure.register("l2", L2)
