"""A generator that goes on and still draws what it drew: functional regularisation, of its samples."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .distance_hessians import Distance, diagonal_hessian

SAMPLES = 256  # that the Hessian is of


def hold(
    samples: Tensor, params: Mapping[str, Tensor], distance: Distance, weight: float, rng: torch.Generator
) -> Callable[[], None]:
    """What to do after every step: the proximal step of (weight / 2) sum_i H_ii (w_i - w_i*)².

    H is the Hessian of the distance between samples (N, ...), which hang on `params`, and what they become; w* are the
    weights now. w <- (w + weight H w*) / (1 + weight H), in closed form, is stable however large the weight is, and
    asks nothing of the optimizer that made the step (Parikh & Boyd 2014, section 2.2).
    weight: a strength times the learning rate.
    """
    curved = diagonal_hessian(samples.flatten(1), params, distance, rng)
    pairs = [(p, p.detach().clone(), weight * curved[k] / (1 + weight * curved[k])) for k, p in params.items()]

    @torch.no_grad()
    def back() -> None:
        for p, before, share in pairs:
            p.lerp_(before, share)

    return back
