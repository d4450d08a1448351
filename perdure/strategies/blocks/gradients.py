"""Gradients as one long vector."""

import torch
from torch import Tensor

from ...streams.experience import Batch
from ..base import Grads
from ..distributed import collectives
from ..learner import Learner


def flat(grads: Grads) -> Tensor:
    """(P,), in the order of the names."""
    return torch.cat([g.flatten() for g in grads.values()])


def shaped(vector: Tensor, like: Grads) -> Grads:
    parts = vector.split([g.numel() for g in like.values()])
    return {k: part.view_as(g) for (k, g), part in zip(like.items(), parts, strict=True)}


def loss_gradient(learner: Learner, batch: Batch, names: list[str]) -> Tensor:
    """(P,), of the loss on `batch` with respect to the parameters of these names."""
    with torch.enable_grad():
        loss = learner.loss(learner.outputs(batch.x, batch.task), batch)
        return flat(gradients(loss, learner, names))


def gradients(value: Tensor, learner: Learner, names: list[str], again: bool = False) -> Grads:
    """Of a () value; zero where it does not depend on a parameter."""
    params = [learner.params[k] for k in names]
    found = torch.autograd.grad(value, params, allow_unused=True, retain_graph=again)
    pairs = zip(names, params, found, strict=True)
    return collectives.mean({k: torch.zeros_like(p) if g is None else g for k, p, g in pairs})
