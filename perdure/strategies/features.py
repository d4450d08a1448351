"""What the head of a model sees: the inputs of its last linear layer."""

import torch
from torch import Tensor, nn

from ..streams.experience import Samples
from . import team
from .learner import Learner


def head(model: nn.Module) -> nn.Linear:
    """The last linear layer. Raises ValueError where there is none."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ValueError("expected a model whose last layer is linear, as mlp, convnet and resnet18 have")
    return layers[-1]


def features(learner: Learner, x: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
    """(B, F) features and (B, C) outputs of inputs x; the model must be in evaluation mode."""
    seen: list[Tensor] = []
    hook = head(learner.model).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        outputs = learner.outputs(x, task)
    finally:
        hook.remove()
    return team.joined(seen[-1].to(outputs), x.shape[0]), outputs


@torch.no_grad()
def all_features(learner: Learner, samples: Samples, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Features and outputs of stored samples."""
    with learner.resting():
        parts = [samples.batch(i) for i in torch.arange(len(samples.y), device=samples.y.device).split(chunk)]
        seen = [features(learner, b.x, b.task) for b in parts]
    return torch.cat([f for f, _ in seen]), torch.cat([o for _, o in seen])
