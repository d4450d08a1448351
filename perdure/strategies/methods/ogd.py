"""Orthogonal gradient descent (Farajtabar et al. 2020, arXiv:1910.07104)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import Strategy
from ..blocks.gradients import flat, gradients, shaped
from ..training.requirements import expect_plain_steps


@dataclass(frozen=True)
class OGD(Strategy):
    """Step only where, to first order, no remembered answer changes.

    Keeps an orthonormal basis of the gradients of the true class's output on `samples` of each past
    experience (the variant OGD-GTL of the paper), and takes its span out of every gradient. The basis
    holds `samples` vectors as long as the model for every experience.
    """

    recalls = False
    still = True
    samples: int = 40

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    def init(self, learner):
        expect_plain_steps(learner, "ogd")
        return {}

    def steer(self, learner, grads, state):
        if not state:
            return grads
        g, basis = flat(grads), state["basis"]
        return shaped(g - basis @ (basis.T @ g), grads)

    def consolidate(self, learner, experience, state):
        some = experience.train.draw(self.samples, learner.rng["ogd"])
        x, y, task, _ = some.batch(torch.arange(len(some.y), device=some.y.device))
        names = list(learner.params)
        with learner.resting():
            true = learner.outputs(x, task).gather(1, y[:, None])
            rows = [flat(gradients(value, learner, names, again=True)) for value in true.flatten()]
        return {"basis": extended(state["basis"] if state else None, torch.stack(rows, 1))}


def extended(basis: Tensor | None, vectors: Tensor) -> Tensor:
    """An orthonormal basis (P, K) of what `basis` and `vectors` (P, N) span, which begins with `basis`."""
    if basis is not None:
        for _ in range(2):  # once more: what one pass leaves behind by rounding
            vectors = vectors - basis @ (basis.T @ vectors)
    q, r = torch.linalg.qr(vectors)
    new = q[:, r.diagonal().abs() > 1e-6 * vectors.norm(dim=0).max()]
    return new if basis is None else torch.cat([basis, new], 1)
