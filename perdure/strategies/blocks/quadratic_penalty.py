"""A pull of every weight back to where the past left it: the common half of all weight regularisers."""

import torch
from torch import Tensor

from ..base import Grads, State
from ..learner import Learner

Importance = dict[str, Tensor]


@torch.no_grad()
def pulled(grads: Grads, learner: Learner, state: State, strength: float) -> Grads:
    """Gradients plus those of (strength / 2) sum_i importance_i (w_i - anchor_i)^2, in closed form."""
    if not state:
        return grads
    weight, anchor = state["importance"], state["anchor"]
    return {k: torch.addcmul(g, weight[k], learner.params[k] - anchor[k], value=strength) for k, g in grads.items()}


def here(learner: Learner) -> dict[str, Tensor]:
    return {k: p.detach().clone() for k, p in learner.params.items()}


def merged(state: State, new: Importance, learner: Learner, decay: float = 1.0) -> State:
    """One quadratic in place of two, exactly: decay * F (w - a)^2 + F' (w - b)^2 = G (w - c)^2 + constant."""
    if not state:
        return {"importance": new, "anchor": here(learner)}
    old = {k: decay * f for k, f in state["importance"].items()}
    total = {k: f + new[k] for k, f in old.items()}
    share = {k: torch.where(t > 0, new[k] / t, 1.0) for k, t in total.items()}  # of the new one in the mean c
    anchor = {k: torch.lerp(a, learner.params[k].detach(), share[k]) for k, a in state["anchor"].items()}
    return {"importance": total, "anchor": anchor}


def moved(state: State, new: Importance, learner: Learner) -> State:
    """Importances add up, and the anchor is where the learner is now."""
    total = {k: f + new[k] for k, f in state["importance"].items()} if state else new
    return {"importance": total, "anchor": here(learner)}
