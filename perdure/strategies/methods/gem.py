"""Gradient episodic memory (Lopez-Paz & Ranzato 2017, arXiv:1706.08840)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...streams.experience import Samples
from ..base import Strategy
from ..blocks.gradients import flat, loss_gradient, shaped
from ..blocks.memory import quotas, refuse_no_room


@dataclass(frozen=True)
class GEM(Strategy):
    """Step uphill on no past experience: the nearest gradient that lowers the loss of each, or leaves it.

    min over v >= margin of |G^T v + g|^2 / 2 with a row of G for each past experience's gradient; then
    g + G^T v (eq. 8 to 11). The dual is solved exactly, by non-negative least squares, on the CPU.
    """

    capacity: int  # samples in all, shared evenly by the past experiences
    margin: float = 0.5

    def __post_init__(self):
        refuse_no_room(self.capacity)
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, got {self.margin}")

    def steer(self, learner, grads, state):
        if not state:
            return grads
        g, rows = flat(grads), torch.arange
        past = [Samples(p["x"], p["y"], p["task"]).batch(rows(len(p["y"]), device=p["y"].device)) for p in state]
        uphill = torch.stack([loss_gradient(learner, batch, list(grads)) for batch in past])  # (E, P)
        return shaped(g + uphill.T @ weights(uphill, g, self.margin), grads)

    def consolidate(self, learner, experience, state):
        fresh = experience.train.draw(self.capacity, learner.rng["gem"])._asdict()
        parts = (*state, fresh) if state else (fresh,)
        shares = quotas([len(p["y"]) for p in parts], self.capacity)
        cut = [{k: v[:n] for k, v in p.items()} for p, n in zip(parts, shares, strict=True)]
        return tuple(p for p in cut if len(p["y"]))


def weights(uphill: Tensor, g: Tensor, margin: float) -> Tensor:
    """v (E,) of the dual problem; v = 0, and no margin, where no gradient is violated."""
    import numpy as np
    from scipy.optimize import nnls

    inner, gram = (uphill @ g).double().cpu(), (uphill @ uphill.T).double().cpu()  # waits for the device
    if not (inner < 0).any() or not gram.isfinite().all():  # a run that diverges is the loop's to report
        return torch.zeros(len(uphill), dtype=g.dtype, device=g.device)
    ridge = 1e-9 * (gram.diagonal().mean() + 1e-30) * torch.eye(len(gram), dtype=gram.dtype)
    root = torch.linalg.cholesky(gram + ridge)
    wanted = -torch.linalg.solve_triangular(root, (inner + margin * gram.sum(1))[:, None], upper=False)[:, 0]
    v = nnls(np.asarray(root.T), np.asarray(wanted))[0] + margin
    return torch.from_numpy(v).to(g)
