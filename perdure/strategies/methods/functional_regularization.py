"""Old and new answers held together in a distance of choice (Kolouri et al. 2020; Gretton et al. 2012)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...streams.experience import Samples
from ..base import Strategy
from ..blocks.fisher import Answer, Score, square_scores
from ..blocks.quadratic_penalty import Importance, merged, pulled
from ..blocks.readings import OUTPUTS, reading
from ..generators.distance_hessians import Distance, diagonal_hessian
from ..learner import Learner

MOST = 256  # outputs that a pass is made for each of


@dataclass(frozen=True)
class Functional(Strategy):
    """Pull weights back by how far the answers on the past would move, measured in a distance of choice.

    strength * d(answers now, answers before) is (strength / 2) sum_i H_ii (w_i - w_i*)^2 to second order, on the
    diagonal, with H the Hessian of d at w*: of `kl` (the Fisher), `wasserstein` (the mean of |f - f*|^2),
    `sliced_cramer` or `mmd`, as `generators.distance_hessians.diagonal_hessian` has them. The answers are the model's
    outputs, or those of one of its layers: weights above it are free.

    Raises ValueError, before anything is learned, where the model has no module `of`.
    """

    recalls = False
    still = True
    strength: float = 100.0
    distance: Distance = "wasserstein"
    samples: int | None = 1024  # of each experience; None takes all
    slices: int = 64  # random directions, for sliced_cramer and mmd, and where there are more than 256 outputs
    of: str = OUTPUTS  # or the name of a module, as in model.named_modules()

    def __post_init__(self):
        if self.strength < 0 or self.slices < 1:
            raise ValueError(f"expected strength >= 0 and slices >= 1, got {self.strength} and {self.slices}")
        if self.distance == "kl" and self.of != OUTPUTS:
            raise ValueError(f"kl compares class probabilities, which {self.of!r} has none of; take another distance")

    def init(self, learner):
        reading(learner, self.of)
        return {}

    def steer(self, learner, grads, state):
        return pulled(grads, learner, state, self.strength)

    def consolidate(self, learner, experience, state):
        rng = learner.rng["functional"]
        some = experience.train.draw(self.samples or len(experience), rng)
        new = curvature(learner, some, self.distance, self.slices, rng, self.of)
        return merged(state, new, learner)


def curvature(
    learner: Learner, some: Samples, distance: Distance, slices: int, rng: torch.Generator, of: str = OUTPUTS
) -> Importance:
    """The diagonal of the distance's Hessian at the learner's weights, which answer in evaluation mode.

    kl and wasserstein are exact, by a pass for each output; where there are more than 256 of these, and for distances
    between sets of samples, `slices` random directions stand for all.
    """
    answer = reading(learner, of)
    x, _, task, _ = some.batch(torch.arange(len(some.y), device=some.y.device))
    with learner.resting(), torch.enable_grad():
        width = answer(x[:1], task[:1]).shape[1]
        if distance in ("kl", "wasserstein") and width <= MOST:
            return _each_output(learner, x, task, answer, distance, width)
        outputs = answer(x, task)
        if distance == "kl":
            outputs = learner.masked(outputs, task)
        return diagonal_hessian(outputs, learner.params, distance, rng, slices)


def _each_output(
    learner: Learner, x: Tensor, task: Tensor, answer: Answer, distance: Distance, width: int
) -> Importance:
    """E_x sum_k p_k (d log p_k / dw)^2, or 2 E_x sum_k (df_k / dw)^2: one pass for every output k."""
    total = {k: torch.zeros_like(p) for k, p in learner.params.items()}
    for index in torch.arange(len(x), device=x.device).split(256):
        for k in range(width):
            score = _likely(learner, task[index], k) if distance == "kl" else lambda outputs, k=k: outputs[:, k]
            for name, square in square_scores(learner, x[index], task[index], score, answer=answer).items():
                total[name] += (1 if distance == "kl" else 2) * square / len(x)
    return total


def _likely(learner: Learner, task: Tensor, k: int) -> Score:
    """Whose gradient's square is p_k (d log p_k)^2."""

    def score(outputs: Tensor) -> Tensor:
        told = learner.masked(outputs, task).log_softmax(1)[:, k]
        return (told / 2).detach().exp() * told

    return score
