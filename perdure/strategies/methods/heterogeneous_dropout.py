"""Heterogeneous dropout of past winners (Abbasi et al. 2022, arXiv:2203.06514)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import Strategy
from ..learner import Learner
from ..models.winners import Winners


@dataclass(frozen=True)
class HeterogeneousDropout(Strategy):
    """Let units that won often in the past sit out, so that another task finds others: for models with winners.

    A unit takes part in training with probability exp(-alpha * count / max count), count how often it has won
    so far; in tests all take part (eq. 5). alpha = 0 changes nothing and still reports the overlap of tasks.
    """

    recalls = False
    alpha: float = 1.0

    def __post_init__(self):
        if self.alpha < 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}")

    def init(self, learner):
        if not winners(learner):
            raise ValueError("heterogeneous_dropout needs a model with winners, as mlp(400, 400, winners=0.05)")
        return {}

    @torch.no_grad()
    def consolidate(self, learner, experience, state):
        """The model's own buffers say who sits out; the state holds each task's wins."""
        past = state["wins"] if state else ()
        so_far = {name: layer.wins.clone() for name, layer in winners(learner).items()}
        own = {k: v - sum((t[k] for t in past), torch.zeros_like(v)) for k, v in so_far.items()}
        for layer in winners(learner).values():
            layer.keep.copy_(torch.exp(-self.alpha * layer.wins / layer.wins.max().clamp(min=1)))
        return {"wins": (*past, own)}

    def describe(self, learner, state):
        if len(state["wins"]) < 2:
            return {}
        return {f"overlap/{name}": overlap([t[name] for t in state["wins"]]) for name in state["wins"][0]}


def winners(learner: Learner) -> dict[str, Winners]:
    return {name: m for name, m in learner.model.named_modules() if isinstance(m, Winners)}


def overlap(wins: list[Tensor]) -> float:
    """Mean over pairs of tasks of sum_u min(p_u, q_u), p and q the tasks' shares of wins over units: 1 if equal."""
    shares = [w / w.sum().clamp(min=1) for w in wins]
    pairs = [torch.minimum(a, b).sum() for n, a in enumerate(shares) for b in shares[n + 1 :]]
    return torch.stack(pairs).mean().item()
