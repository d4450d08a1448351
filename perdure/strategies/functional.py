"""Old and new answers held together in another distance than EWC's (Kolouri et al. 2020; Gretton et al. 2012)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from ..streams.experience import Samples
from .base import Strategy
from .features import all_outputs
from .fisher import diagonal_fisher, square_scores
from .gradients import gradients
from .learner import Learner
from .quadratic import Importance, merged, pulled

Distance = Literal["kl", "wasserstein", "sliced_cramer", "mmd"]


@dataclass(frozen=True)
class Functional(Strategy):
    """Pull weights back by how far the answers on the past would move, measured in a distance of choice.

    lambda E_x d(f(x; w), f(x; w*)) is (lambda / 2) sum_i H_ii (w_i - w_i*)^2 to second order, H the Hessian of d at
    w*: `kl`, the Fisher; `wasserstein`, of |f - f*|^2 per sample, H_ii = 2 E sum_k (df_k/dw_i)^2;
    `sliced_cramer`, E over directions s of (d s.mean(f) / dw_i)^2 (Kolouri et al. 2020, ICLR, algorithm 1);
    `mmd`, of the squared maximum mean discrepancy between the sets of answers, Gaussian kernel, by random
    features: 2 E_v |d mean exp(i v.f) / dw_i|^2.
    """

    recalls = False
    still = True
    strength: float = 100.0
    distance: Distance = "wasserstein"
    samples: int | None = 1024  # of each experience; None takes all
    slices: int = 64  # directions, for sliced_cramer and mmd

    def __post_init__(self):
        if self.strength < 0 or self.slices < 1:
            raise ValueError(f"expected strength >= 0 and slices >= 1, got {self.strength} and {self.slices}")

    def steer(self, learner, grads, state):
        return pulled(grads, learner, state, self.strength)

    def consolidate(self, learner, experience, state):
        rng = learner.rng["functional"]
        some = experience.train.draw(self.samples or len(experience), rng)
        with learner.resting():
            new = curvature(learner, some, self.distance, self.slices, rng)
        return merged(state, new, learner)


def curvature(learner: Learner, some: Samples, distance: Distance, slices: int, rng: torch.Generator) -> Importance:
    """The diagonal of the distance's Hessian at the learner's weights; the model must be in evaluation mode."""
    if distance == "kl":
        return diagonal_fisher(learner, some, rng)
    if distance == "wasserstein":
        return _jacobian_squares(learner, some, rng)
    x, _, task, _ = some.batch(torch.arange(len(some.y), device=some.y.device))
    names = list(learner.params)
    with torch.enable_grad():
        outputs = learner.outputs(x, task)
        total = {k: torch.zeros_like(p) for k, p in learner.params.items()}
        for v in torch.randn(slices, outputs.shape[1], generator=rng).to(outputs):
            if distance == "sliced_cramer":
                parts = [(outputs @ F.normalize(v, dim=0)).mean()]
            else:
                angle = outputs @ (v / _spread(outputs))
                parts = [2**0.5 * angle.cos().mean(), 2**0.5 * angle.sin().mean()]
            for part in parts:
                for k, g in gradients(part, learner, names, again=True).items():
                    total[k] += g.square() / slices
    return total


def _spread(outputs: torch.Tensor) -> torch.Tensor:
    """The kernel's width: the root mean square distance between two answers."""
    return (2 * outputs.detach().var(0).sum()).sqrt().clamp(min=1e-6)


def _jacobian_squares(learner: Learner, some: Samples, rng: torch.Generator) -> Importance:
    """2 E_x sum_k (df_k/dw)^2, exactly: one pass for every output."""
    count = all_outputs(learner, Samples(some.x[:1], some.y[:1], some.task[:1])).shape[1]
    total = {k: torch.zeros_like(p) for k, p in learner.params.items()}
    for index in torch.arange(len(some.y), device=some.y.device).split(256):
        x, _, task, _ = some.batch(index)
        for k in range(count):
            for name, square in square_scores(learner, x, task, lambda outputs, k=k: outputs[:, k]).items():
                total[name] += 2 * square / len(some.y)
    return total
