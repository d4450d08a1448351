"""A model in two parts: the layers that make hidden features, and those that answer from them."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from ...streams.experience import Samples
from ..learner import Learner
from ..training.requirements import NORMS


def parted(model: nn.Module, layer: int) -> tuple[nn.Module, nn.Module]:
    """What comes before layer `layer`, and the rest; weights are shared. Linear layers, convolutions and blocks count,
    from 0, at which all is the rest and the model may be any.


    Raises ValueError where the model is not a sequence, or has no such layer.
    """
    if not layer:
        return nn.Sequential(), model
    parts = list(_sequence(model))
    weighted = [n for n, part in enumerate(parts) if list(part.parameters()) and not isinstance(part, NORMS)]
    if layer >= len(weighted):
        raise ValueError(
            f"expected a model of more than {layer} layers in a row, as mlp, convnet and resnet18 are, "
            f"got {len(weighted)}"
        )
    return nn.Sequential(*parts[: weighted[layer]]), nn.Sequential(*parts[weighted[layer] :])


@torch.no_grad()
def passed(learner: Learner, part: nn.Module, samples: Samples, chunk: int = 1024) -> Tensor:
    """What a part of the learner's model makes of stored samples, in evaluation mode: (N, ...)."""
    made = []
    with learner.resting():
        for index in torch.arange(len(samples.y), device=samples.y.device).split(chunk):
            batch = samples.batch(index)
            learner.task = batch.task
            made.append(part(batch.x))
    return torch.cat(made)


def _sequence(model: nn.Module) -> Iterator[nn.Module]:
    if type(model).forward is not nn.Sequential.forward:  # nor is a subclass that goes another way
        yield model
        return
    for part in cast(nn.Sequential, model):
        yield from _sequence(part)


def buffer_name(what: str, weight: str) -> str:
    """Of a buffer that tells of a weight, as `si_path_0:weight` of `0.weight`.

    torch takes no dots, and with `_` in their place `head.weight` and `head_weight` would share one.
    """
    return f"{what}_{weight.replace('.', ':')}"
