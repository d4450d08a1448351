"""Meta-learning by evolution strategies (Song et al. 2020, arXiv:1910.01215)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.func import vmap

from .base import MetaLearner
from .maml import MAML, refuse_no_steps


@dataclass(frozen=True)
class EvolutionStrategies(MetaLearner):
    """MAML's weights to start from, without a gradient through its steps: g = 1/(2 n σ) Σ_i (F(φ + σ ε_i) -
    F(φ - σ ε_i)) ε_i, ε from N(0, I), each drawn with its opposite (algorithm 2 there).

    objective: F after `steps` gradient steps on the support; "error" is the share of queries that are answered wrong,
    of which there is no gradient.
    """

    lr: float = 0.01
    steps: int = 1
    sigma: float = 0.05
    pairs: int = 16  # n, of each task
    objective: Literal["loss", "error"] = "loss"

    def __post_init__(self):
        refuse_no_steps(self.lr, self.steps)
        if self.sigma <= 0 or self.pairs < 1:
            raise ValueError(f"expected sigma > 0 and a pair at least, got {self.sigma} and {self.pairs}")

    def width(self, outputs, classes):
        if classes is None and self.objective == "error":
            raise ValueError('objective="error" counts wrong classes, and these tasks ask for values')
        return outputs

    def adapted(self, loss, learned, x, y, steps=None):
        return MAML(self.lr, self.steps, 1).adapted(loss, learned, x, y, steps)

    def told(self, loss, learned, task):
        weights = learned["weights"]

        def reached(weights, support_y, query_y):
            answers = self.answers(loss, {"weights": weights}, task.support_x, support_y, task.query_x)
            if self.objective == "error":
                return (answers.argmax(-1) != query_y).to(answers.dtype).mean()
            return loss.of(answers, query_y)

        noise = {k: torch.randn((self.pairs, *v.shape), dtype=v.dtype, device=v.device) for k, v in weights.items()}

        def slope(noise, *y):
            there, back = ({k: v + s * noise[k] for k, v in weights.items()} for s in (self.sigma, -self.sigma))
            return (reached(there, *y) - reached(back, *y)) / (2 * self.sigma)

        # torch's losses fail under two vmaps where outputs differ from pair to pair and labels do not
        y = (each.expand(self.pairs, *each.shape) for each in (task.support_y, task.query_y))
        slopes = vmap(slope, randomness="same")(noise, *y)  # (pairs,)
        gradient = {k: torch.tensordot(slopes, e, 1) / self.pairs for k, e in noise.items()}
        answers = self.answers(loss, learned, task.support_x, task.support_y, task.query_x)
        return {"weights": gradient}, loss.of(answers, task.query_y)
